import { z } from 'zod';
import { CertlineError } from '../errors.ts';
import { type OrderRequest, orderRequestSchema } from '../model/order.ts';
import {
  type CredentialTest,
  credentialTestSchema,
  type NameCheck,
  nameCheckSchema,
} from '../model/validation-checks.ts';
import { createRequests, type RequestsOptions, startRequestWorker } from './requests.ts';
import { validationRequestQueue } from './stages.ts';
import type { RunningWorker, WorkerConnection } from './worker.ts';

const questions = {
  check: z.object({ request: orderRequestSchema }),
  'test-credential': z.object({ credential: z.string(), zone: z.string().nullable() }),
};
type ValidationQuestion = keyof typeof questions;

/** What only validation workers can tell: they see DNS and the web as they will when an order comes, and open DNS providers. */
export interface ValidationRequests {
  /** What of an order would fail, by name. Throws `validation_unserved` when no worker answers in time. */
  check(request: OrderRequest, signal: AbortSignal): Promise<NameCheck[]>;
  /**
   * Whether a DNS credential can write, and take away, a TXT record of a zone: of the first that it can see when none is given.
   * Throws `validation_unserved`, `credential_unknown`.
   */
  testCredential(credential: string, zone: string | null, signal: AbortSignal): Promise<CredentialTest>;
  close(): Promise<void>;
}

export interface ValidationRequestsOptions extends RequestsOptions {
  /** How long an answer is waited for, ms. */
  limitMs?: number;
}

const standardLimitMs = 60_000;
const concurrency = 10;

export function createValidationRequests(options: ValidationRequestsOptions): ValidationRequests {
  const { limitMs = standardLimitMs } = options;
  const requests = createRequests(options);

  function ask(question: ValidationQuestion, about: object, signal: AbortSignal): Promise<unknown> {
    const failing = (detail: string) => () => new CertlineError('validation_unserved', detail);
    const failures = {
      unserved: failing('no validation worker is running'),
      untaken: failing('no validation worker has the time to answer'),
      unanswered: failing(`the validation worker did not come to an end in ${limitMs / 1000} s`),
    };
    return requests.ask({ queue: validationRequestQueue, question, about, limitMs, failures }, signal);
  }

  return {
    check: async (request, signal) => z.array(nameCheckSchema).parse(await ask('check', { request }, signal)),
    testCredential: async (credential, zone, signal) =>
      credentialTestSchema.parse(await ask('test-credential', { credential, zone }, signal)),
    close: requests.close,
  };
}

/** What a validation worker does for a request. */
export type ValidationAnswers = Pick<ValidationRequests, 'check' | 'testCredential'>;

/** Answers what validation workers are asked. */
export function startValidationRequestWorker(answers: ValidationAnswers, settings: WorkerConnection): RunningWorker {
  return startRequestWorker(
    {
      ...{ queue: validationRequestQueue, concurrency },
      async answer(question, about, signal) {
        switch (question) {
          case 'check':
            return answers.check(questions.check.parse(about).request, signal);
          case 'test-credential': {
            const { credential, zone } = questions['test-credential'].parse(about);
            return answers.testCredential(credential, zone, signal);
          }
          default:
            throw new CertlineError(
              'validation_unserved',
              `a validation worker of an older version does not know ${question}`,
            );
        }
      },
    },
    settings,
  );
}
