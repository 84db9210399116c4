import type { Problem } from '#libs/errors';
import type { DeployBody } from './deploy-body.ts';

type Option = keyof DeployBody;

/** What is said of bindings, and so has no effect where none is touched. */
const bindingOptions: Option[] = ['updateOnly', 'addMissing', 'blankHost', 'port', 'ip', 'sni', 'replace'];
/** What is said of bindings that are added. */
const additionOptions: Option[] = ['port', 'ip', 'sni'];

/** Those of some options that a request gives, as problems with the same words. */
export function refused(deploy: DeployBody, options: readonly Option[], detail: string): Problem[] {
  return options
    .filter((option) => deploy[option] !== undefined)
    .map((option) => ({ path: `deploy.${option}`, code: 'request_invalid', detail }));
}

/** All options but some that a request gives. */
export function optionsBut(deploy: DeployBody, ...but: Option[]): Option[] {
  return (Object.keys(deploy) as Option[]).filter((option) => !but.includes(option));
}

/**
 * Options for IIS hosts that would have no effect, or contradict each other: whoever gives one means something by it. `false` says what
 * is so anyway, and is taken.
 */
export function optionProblems(deploy: DeployBody): Problem[] {
  const { mode = 'site', updateOnly, addMissing, blankHost } = deploy;
  if (mode === 'none')
    return refused(deploy, optionsBut(deploy, 'mode'), 'mode none deploys nowhere: leave it out, or use another mode');
  if (mode === 'store')
    return refused(
      deploy,
      ['site', ...bindingOptions],
      'mode store binds nothing: leave it out, or use another mode such as site',
    );
  const detail = `mode ${mode} takes every started site: leave it out, or use mode site`;
  const problems = mode === 'site' ? [] : refused(deploy, ['site'], detail);
  if (mode !== 'site' && addMissing)
    problems.push(
      ...refused(deploy, ['addMissing'], `mode ${mode} has no site to add missing names to: use mode site`),
    );
  if (mode === 'auto' && blankHost)
    problems.push(...refused(deploy, ['blankHost'], 'mode auto takes no bindings without a host name: use mode all'));
  if (!updateOnly) return problems;
  const contradiction = 'updateOnly adds no bindings: give one of the two';
  const idle = 'is for bindings that are added, and updateOnly adds none: leave it out';
  return [
    ...problems,
    ...(addMissing && mode === 'site' ? refused(deploy, ['addMissing'], contradiction) : []),
    ...refused(deploy, additionOptions, idle),
  ];
}
