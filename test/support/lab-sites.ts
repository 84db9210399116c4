/** Creates a site with http bindings on a simulated IIS host. */
export async function addSite(
  hostUrl: string,
  id: number,
  bindings: readonly string[],
  options: Record<string, unknown> = {},
): Promise<void> {
  const body = {
    id,
    name: `site${id}`,
    bindings: bindings.map((bindingInformation) => ({ protocol: 'http', bindingInformation })),
    ...options,
  };
  const answer = await fetch(`${hostUrl}/sites`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(`the simulated host refuses the site: ${await answer.text()}`);
}
