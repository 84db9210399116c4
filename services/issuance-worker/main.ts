import { runWorkerProcess } from '#libs/service/worker-process';
import { sections, startIssuanceWorker } from './service.ts';

await runWorkerProcess('issuance-worker', sections, startIssuanceWorker);
