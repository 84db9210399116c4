import type { Problem } from '#libs/errors';
import type { Rollout, TargetDeploy } from '#libs/model/order';
import type { Target } from '#libs/model/target';
import type { DeployBody, FindTarget, NamedTarget, SourceSite } from './deploy-body.ts';
import { optionProblems, optionsBut, refused } from './deploy-options.ts';
import { noting, refusal } from './field-problems.ts';

/** One of `deploy.targets`. */
interface Entry {
  named: NamedTarget;
  /** Where it is in the request. */
  path: string;
  /** Null when there is none, which `problems` says. */
  target: Target | null;
  problems: Problem[];
}

const wrong = (path: string, detail: string): Problem => ({ path, code: 'request_invalid', detail });

/** The targets of a request, each looked up; one that is named again is a problem of its own. */
async function entriesOf(targets: NonNullable<DeployBody['targets']>, findTarget: FindTarget): Promise<Entry[]> {
  const first = new Map<string, number>();
  return Promise.all(
    targets.map(async (one, at) => {
      const named = typeof one === 'string' ? { target: one } : one;
      const id = named.target;
      const path = `deploy.targets[${at}]`;
      const before = first.get(id);
      if (before !== undefined) {
        const again = `${id} is named twice, by deploy.targets[${before}] too: leave one out`;
        return { named, path, target: null, problems: [wrong(path, again)] };
      }
      first.set(id, at);
      const problems: Problem[] = [];
      const field = typeof one === 'string' ? path : `${path}.target`;
      return { named, path, target: await noting(problems, () => findTarget(id, field)), problems };
    }),
  );
}

/** What is done on one target; what is wrong with it is added to its problems. */
function deployAt(
  { named, path, target, problems }: Entry,
  deploy: DeployBody,
  source: SourceSite | undefined,
): TargetDeploy | null {
  if (target === null) return null;
  const { mode = 'site', site, target: _none, targets: _all, waves: _waves, planHash: _hash, ...options } = deploy;
  if (target.kind !== 'iis' || mode === 'none') {
    const detail = `is for IIS hosts, and ${target.id} is of kind ${target.kind}`;
    for (const field of ['site', 'planHash'] as const)
      if (named[field] !== undefined) problems.push(wrong(`${path}.${field}`, detail));
    return { mode: 'store', target: target.id };
  }
  const held = named.planHash === undefined ? {} : { planHash: named.planHash };
  if (mode !== 'site') {
    if (named.site !== undefined)
      problems.push(wrong(`${path}.site`, `mode ${mode} takes no site: leave it out, or use mode site`));
    return { mode, target: target.id, ...options, ...held };
  }
  const chosen = named.site ?? site ?? (target.id === source?.target ? source.site : undefined);
  if (chosen === undefined) {
    const detail = `name the site of ${target.id}, or one for all in deploy.site, or another mode`;
    problems.push(wrong(`${path}.site`, detail));
    return null;
  }
  return { mode, target: target.id, site: chosen, ...options, ...held };
}

/** How many targets each wave has. `rest` is whatever the numbers leave, also nothing. */
function sizesOf(waves: DeployBody['waves'], count: number, problems: Problem[]): number[] {
  if (waves === undefined) return [count];
  for (const [at, wave] of waves.entries())
    if (wave === 'rest' && at < waves.length - 1)
      problems.push(wrong(`deploy.waves[${at}]`, '"rest" is all that is left: it can only be the last wave'));
  const numbers = waves.filter((wave) => wave !== 'rest');
  const sum = numbers.reduce((total, size) => total + size, 0);
  if (sum > count)
    problems.push(wrong('deploy.waves', `the waves are for ${sum} targets, and ${count} are named: lower a number`));
  if (sum < count && !waves.includes('rest')) {
    const detail = `the waves are for ${sum} of ${count} targets, ${count - sum} are left over: end with "rest", or add a number`;
    problems.push(wrong('deploy.waves', detail));
  }
  return sum < count ? [...numbers, count - sum] : numbers;
}

/** Options that say something only for IIS hosts, where none of the targets is one. */
function idleProblems(deploy: DeployBody): Problem[] {
  const options = optionsBut(deploy, 'target', 'targets', 'waves', 'planHash');
  const idle = deploy.mode === 'store' ? options.filter((option) => option !== 'mode') : options;
  return refused(deploy, idle, 'is for IIS hosts, and none of the targets is one: leave it out');
}

/**
 * What a request's `deploy` with several `targets` means: its options apply to all IIS hosts among them; targets of other kinds take the
 * certificate as it is. Throws with every field of every target that is wrong.
 */
export async function rolloutOf(
  deploy: DeployBody,
  source: SourceSite | undefined,
  findTarget: FindTarget,
): Promise<Rollout> {
  const { targets = [], waves } = deploy;
  const problems = [
    ...refused(deploy, ['target'], 'give one target, or several in `targets`, not both'),
    ...refused(
      deploy,
      ['planHash'],
      'each target has a plan of its own: give {"target": …, "planHash": …} in `targets`',
    ),
  ];
  const sizes = sizesOf(waves, targets.length, problems);
  const entries = await entriesOf(targets, findTarget);
  const delivered = entries.every(({ target }) => target !== null && target.kind !== 'iis');
  problems.push(...(delivered ? idleProblems(deploy) : optionProblems(deploy)));
  const deploys = entries.flatMap((entry) => deployAt(entry, deploy, source) ?? []);
  problems.push(...entries.flatMap((entry) => entry.problems));
  if (problems.length > 0) throw refusal(problems);
  let taken = 0;
  const cut = sizes.map((size) => {
    taken += size;
    return deploys.slice(taken - size, taken);
  });
  return { mode: 'rollout', waves: cut };
}
