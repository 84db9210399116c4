import { z } from 'zod';
import { parseXml } from './aws-xml.ts';
import type { ApiAnswer, ApiProblem } from './http-api.ts';

/** Somebody is too fast: this account, or another change of the same zone. */
const busy =
  /^(Throttling|ThrottlingException|ThrottledException|RequestLimitExceeded|RequestThrottled|PriorRequestNotComplete|SlowDown)$/;
const refused =
  /^(AccessDenied|AccessDeniedException|InvalidClientTokenId|SignatureDoesNotMatch|IncompleteSignature|ExpiredToken|ExpiredTokenException|RequestExpired|MissingAuthenticationToken|UnrecognizedClientException|InvalidAccessKeyId|NotAuthorized|OptInRequired|RegionDisabledException)$/;

const errorSchema = z.object({
  ErrorResponse: z.object({ Error: z.object({ Code: z.string(), Message: z.string().default('') }) }),
});
// https://docs.aws.amazon.com/Route53/latest/APIReference/API_ChangeResourceRecordSets.html#API_ChangeResourceRecordSets_Errors
const batchSchema = z.object({
  InvalidChangeBatch: z.object({ Messages: z.object({ Message: z.array(z.string()) }) }),
});

export interface AwsError {
  code: string;
  message: string;
}

/** The error that an answer of Route 53 or STS holds. */
export function awsErrorOf({ text }: ApiAnswer): AwsError | null {
  const document = parseXml(text);
  const batch = batchSchema.safeParse(document);
  if (batch.success)
    return { code: 'InvalidChangeBatch', message: batch.data.InvalidChangeBatch.Messages.Message.join('; ') };
  const read = errorSchema.safeParse(document);
  if (!read.success) return null;
  const { Code: code, Message: message } = read.data.ErrorResponse.Error;
  return { code, message };
}

/** What an error of AWS means. */
export function readAwsProblem(answer: ApiAnswer): ApiProblem | undefined {
  const error = awsErrorOf(answer);
  if (error === null) return undefined;
  const words = `${error.code}: ${error.message}`;
  if (busy.test(error.code)) return { code: 'dns_provider_busy', words };
  if (refused.test(error.code)) return { code: 'dns_credential_refused', words };
  if (error.code === 'NoSuchHostedZone') return { code: 'dns_zone_not_managed', words };
  return { words };
}
