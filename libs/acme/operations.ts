/** What a request to the CA is for: the label `operation` of the metrics, and what decides the meaning of some problems. */
export const acmeOperations = [
  'directory',
  'newNonce',
  'newAccount',
  'account',
  'newOrder',
  'order',
  'authorization',
  'challenge',
  'finalize',
  'certificate',
  'revokeCert',
  'renewalInfo',
] as const;
export type AcmeOperation = (typeof acmeOperations)[number];

/** A call of the CA, as far as its error's meaning depends on it. */
export interface AcmeCall {
  operation: AcmeOperation;
  url: string;
  /** Whether the newOrder named a certificate that it replaces (RFC 9773 §5). */
  replaces?: boolean;
  /** Whether the newOrder named a profile. */
  profile?: boolean;
  /** Whether the newAccount carried an external account binding. */
  eab?: boolean;
}

/** Where the session says what a person may want to know; a pino logger fits. Bodies are never given to it. */
export interface AcmeLog {
  debug(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}
