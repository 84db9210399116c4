import { z } from 'zod';
import { errorCodes } from '#libs/error-codes';
import { CertlineError, type ErrorCode } from '#libs/errors';
import { methodFor, namedMethodSchema } from '#libs/model/challenge-method';
import type { OrderRequest } from '#libs/model/order';
import { type NameCheck, nameCheckKinds, nameCheckSchema } from '#libs/model/validation-checks';
import type { ValidationRequests } from '#libs/queues/validation-requests';
import { deploymentView } from './deployment-view.ts';
import { type Intake, intakeErrors, orderBody } from './order-intake.ts';
import { type Route, route } from './route.ts';
import { orderView } from './views.ts';

export interface OrderPreviewDeps {
  intake: Intake;
  validation: Pick<ValidationRequests, 'check'>;
}

const words = { code: z.string(), detail: z.string(), advice: z.string().describe('What to do about it') };
const checksView = z.object({
  checks: z
    .array(
      nameCheckSchema.extend({
        code: words.code.nullable().describe('What an order would fail or wait with; null when all is well'),
        advice: words.advice.nullable(),
      }),
    )
    .describe('What a validation worker finds when it looks where the CA will look, by name'),
  checksError: z.object(words).nullable().describe('Why there are no `checks`'),
});
type Checks = z.input<typeof checksView>;

const previewView = z.object({
  ...{ names: orderView.shape.names, source: orderView.shape.source, deploy: orderView.shape.deploy },
  challenges: z.array(namedMethodSchema),
  ...checksView.shape,
  deployments: z.array(deploymentView),
});

const told = (code: ErrorCode, detail: string) => ({ code, detail, advice: errorCodes[code].advice });

/** By name, and then as they are listed. */
function inOrder(one: NameCheck, other: NameCheck): number {
  if (one.name !== other.name) return one.name < other.name ? -1 : 1;
  return nameCheckKinds.indexOf(one.check) - nameCheckKinds.indexOf(other.check);
}

/** What of an order would fail; that nobody can tell makes the rest of the preview no worse. */
async function checksOf(
  validation: OrderPreviewDeps['validation'],
  request: OrderRequest,
  signal: AbortSignal,
): Promise<Checks> {
  try {
    const found = await validation.check(request, signal);
    const checks = found.toSorted(inOrder).map(({ code, ...one }) => ({
      ...one,
      code,
      advice: code === null ? null : errorCodes[code].advice,
    }));
    return { checks, checksError: null };
  } catch (thrown) {
    if (!(thrown instanceof CertlineError)) throw thrown;
    return { checks: [], checksError: told(thrown.code, thrown.message) };
  }
}

/** `POST /v1/orders/preview`. */
export function orderPreview({ intake, validation }: OrderPreviewDeps): Route {
  return route({
    method: 'post',
    path: '/v1/orders/preview',
    scope: 'orders:read',
    tag: 'Orders',
    summary: 'Look at what an order would do',
    description:
      'Checks the same as an order, reads the host and plans its bindings. A validation worker looks at CAA, and at addresses and port 80 or at zone and credential, for each name (`checks`), which takes a minute at the most. With `targets`, one that does not answer or that nothing fits on has an `error` and hides no other. Nothing is stored and nothing is ordered.',
    body: orderBody,
    answers: { 200: { description: 'What an order with this body would do', schema: previewView } },
    errors: intakeErrors,
    async handle({ body, signal }) {
      const { request, deployments } = await intake.preview(body, signal);
      const { names, source, deploy } = request;
      const challenges = names.map((name) => ({
        name,
        ...(methodFor(request, name) ?? { type: 'http-01' as const, via: 'responder' as const }),
      }));
      const [planned, checks] = await Promise.all([deployments(), checksOf(validation, request, signal)]);
      return { status: 200, json: { names, source, challenges, deploy, ...checks, deployments: planned } };
    },
  });
}
