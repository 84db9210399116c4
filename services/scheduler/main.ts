import { runWorkerProcess } from '#libs/service/worker-process';
import { sections, startScheduler } from './service.ts';

await runWorkerProcess('scheduler', sections, startScheduler);
