import { runWorkerProcess } from '#libs/service/worker-process';
import { sections, startDeploymentWorker } from './service.ts';

await runWorkerProcess('deployment-worker', sections, startDeploymentWorker);
