import { z } from 'zod';
import { createPfx } from '#libs/crypto/pfx';
import { CertlineError } from '#libs/errors';
import type { Certificate } from '#libs/model/certificate';
import type { OpenedCertificate } from '#libs/service/certificate-reader';
import type { CertificateStore } from '#libs/store/store';
import { type Route, route } from './route.ts';
import { certificateView, pageOf, pageQuery, viewCertificate } from './views.ts';

export interface CertificateRoutesDeps {
  certificates: CertificateStore;
  readChain(id: string): Promise<{ certificate: Certificate; chainPem: string }>;
  /** Null in a process without a master key. */
  openCertificate: ((id: string) => Promise<OpenedCertificate>) | null;
}

const pfxBody = z.strictObject({
  password: z.string().min(1).max(200),
  form: z
    .enum(['aes-256', '3des'])
    .default('aes-256')
    .describe('`aes-256` for Windows Server 2019 and newer, `3des` (with SHA-1) for older ones'),
  friendlyName: z.string().min(1).max(200).optional(),
});

export function certificateRoutes({ certificates, readChain, openCertificate }: CertificateRoutesDeps): Route[] {
  const tag = 'Certificates';
  return [
    route({
      method: 'get',
      path: '/v1/certificates',
      scope: 'certificates:read',
      tag,
      summary: 'List certificates, newest first',
      query: pageQuery,
      answers: { 200: { description: 'A page of certificates', schema: pageOf(certificateView) } },
      async handle({ query }) {
        const { records, cursor } = await certificates.list(query);
        return { status: 200, json: { items: records.map(viewCertificate), cursor } };
      },
    }),
    route({
      method: 'get',
      path: '/v1/certificates/:id',
      scope: 'certificates:read',
      tag,
      summary: 'Read a certificate',
      answers: { 200: { description: 'The certificate', schema: certificateView } },
      errors: ['not_found'],
      handle: async ({ params }) => ({
        status: 200,
        json: viewCertificate((await readChain(params.id ?? '')).certificate),
      }),
    }),
    route({
      method: 'get',
      path: '/v1/certificates/:id/chain.pem',
      scope: 'certificates:read',
      tag,
      summary: 'The certificate with its chain, leaf first',
      answers: { 200: { description: 'PEM', type: 'application/pem-certificate-chain' } },
      errors: ['not_found'],
      handle: async ({ params }) => ({
        status: 200,
        content: (await readChain(params.id ?? '')).chainPem,
        type: 'application/pem-certificate-chain',
      }),
    }),
    route({
      method: 'post',
      path: '/v1/certificates/:id/pfx',
      scope: 'certificates:export',
      tag,
      summary: 'Export the certificate with its private key',
      description: 'PKCS#12. The password is in the body, since URLs end up in logs.',
      body: pfxBody,
      answers: { 200: { description: 'PKCS#12', type: 'application/x-pkcs12' } },
      errors: ['not_found', 'master_key_missing', 'secret_unreadable'],
      async handle({ params, body }) {
        if (!openCertificate)
          throw new CertlineError('master_key_missing', 'without a master key no private key can be opened');
        const { certificate, privateKeyPem, chainPem } = await openCertificate(params.id ?? '');
        const { password, form, friendlyName = certificate.names[0] ?? certificate.id } = body;
        const content = await createPfx({ privateKeyPem, chainPem, password, friendlyName, form });
        const headers = {
          'content-disposition': `attachment; filename="${certificate.id}.pfx"`,
          'cache-control': 'no-store',
        };
        return { status: 200, content, type: 'application/x-pkcs12', headers };
      },
    }),
  ];
}
