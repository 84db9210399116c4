import { type Config, forgetSecrets, readConfig, type SectionName } from '#libs/config';
import { startMetricsServer } from './metrics-server.ts';
import { openResources, type Resources } from './resources.ts';
import { runProcess, type Service } from './run.ts';

/** The process of a service without an API: its configuration, resources, metrics port, and an end on SIGTERM. */
export async function runWorkerProcess<S extends SectionName>(
  name: string,
  sections: readonly S[],
  start: (resources: Resources, config: Config<S>) => Service | Promise<Service>,
): Promise<void> {
  await runProcess(async () => {
    // All sections in one go, so that every wrong variable is told at once.
    const config = readConfig<S | 'redis' | 'log' | 'metrics'>(['redis', 'log', 'metrics', ...sections], process.env);
    forgetSecrets(process.env);
    const base: Config<'redis' | 'log' | 'metrics'> = config;
    const resources = await openResources(name, 'worker', config);
    const service = await start(resources, config);
    const metrics = await startMetricsServer(resources, base.METRICS_HOST, base.METRICS_PORT);
    resources.log.info({ metricsPort: metrics.port }, `${name} started`);
    return {
      log: resources.log,
      service: {
        async stop() {
          await service.stop();
          await metrics.close();
          await resources.close();
        },
      },
    };
  });
}
