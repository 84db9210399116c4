import type { Problem } from '#libs/errors';
import type { Deploy } from '#libs/model/order';
import type { Target } from '#libs/model/target';
import type { DeployBody, FindTarget, SourceSite } from './deploy-body.ts';
import { optionProblems, optionsBut, refused } from './deploy-options.ts';
import { invalid, refusal } from './field-problems.ts';
import { rolloutOf } from './read-rollout.ts';

/** To a target that is no IIS host a certificate goes as it is: there is nothing to choose. */
function deliveryOf(deploy: DeployBody, { id, kind }: Target): Deploy {
  const { mode = 'store' } = deploy;
  const wrongMode: Problem[] =
    mode === 'store' ? [] : refused(deploy, ['mode'], `a target of kind ${kind} takes no mode but store`);
  const options = optionsBut(deploy, 'mode', 'target');
  const problems = [...wrongMode, ...refused(deploy, options, `is for IIS hosts, and ${id} is none`)];
  if (problems.length > 0) throw refusal(problems);
  return { mode: 'store', target: id };
}

/**
 * What a request's `deploy` means, with what its source says for it. `source` is the site that the names come from, if they come from one.
 * Throws with every field that is wrong; `findTarget` throws when there is no such target.
 */
export async function deployOf(
  deploy: DeployBody | undefined,
  source: SourceSite | undefined,
  findTarget: FindTarget,
): Promise<Deploy> {
  if (!deploy) return source ? { mode: 'site', target: source.target, site: source.site } : { mode: 'none' };
  if (deploy.targets !== undefined && deploy.mode !== 'none') return rolloutOf(deploy, source, findTarget);
  const { mode = 'site', target = source?.target, site, targets: _none, waves, ...options } = deploy;
  if (mode === 'none') {
    const problems = optionProblems(deploy);
    if (problems.length > 0) throw refusal(problems);
    return { mode };
  }
  if (waves !== undefined)
    throw invalid('deploy.waves', 'request_invalid', 'is for several targets: name them in `deploy.targets`');
  if (target === undefined) throw invalid('deploy.target', 'request_invalid', 'name the target to deploy to');
  const found = await findTarget(target, 'deploy.target');
  if (found.kind !== 'iis') return deliveryOf(deploy, found);
  const problems = optionProblems(deploy);
  const chosen = site ?? (target === source?.target ? source.site : undefined);
  if (mode === 'site' && chosen === undefined)
    problems.push({
      ...{ path: 'deploy.site', code: 'request_invalid' },
      detail: 'name the site to deploy to, or another mode',
    });
  if (problems.length > 0) throw refusal(problems);
  return { mode, target, ...(mode === 'site' && chosen !== undefined ? { site: chosen } : {}), ...options };
}
