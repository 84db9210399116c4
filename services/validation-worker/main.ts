import { runWorkerProcess } from '#libs/service/worker-process';
import { sections, startValidationWorker } from './service.ts';

await runWorkerProcess('validation-worker', sections, startValidationWorker);
