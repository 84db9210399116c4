import { readConfig } from '#libs/config';
import { openResources } from '#libs/service/resources';
import { runProcess } from '#libs/service/run';
import { sections, startApi } from './service.ts';

await runProcess(async () => {
  const config = readConfig(['log', ...sections], process.env);
  const resources = await openResources('api', 'api', config);
  const api = await startApi(resources, config);
  if (api.firstKey !== null) process.stdout.write(`First API key, shown only now: ${api.firstKey}\n`);
  return {
    log: resources.log,
    service: {
      async stop() {
        await api.stop();
        await resources.close();
      },
    },
  };
});
