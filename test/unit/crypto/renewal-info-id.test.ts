import { describe, expect, it } from 'vitest';
import { renewalInfoId } from '#libs/crypto/renewal-info-id';

/** RFC 9773 appendix A. */
const example = `-----BEGIN CERTIFICATE-----
MIIBQzCB66ADAgECAgUAh2VDITAKBggqhkjOPQQDAjAVMRMwEQYDVQQDEwpFeGFt
cGxlIENBMCIYDzAwMDEwMTAxMDAwMDAwWhgPMDAwMTAxMDEwMDAwMDBaMBYxFDAS
BgNVBAMTC2V4YW1wbGUuY29tMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEeBZu
7cbpAYNXZLbbh8rNIzuOoqOOtmxA1v7cRm//AwyMwWxyHz4zfwmBhcSrf47NUAFf
qzLQ2PPQxdTXREYEnKMjMCEwHwYDVR0jBBgwFoAUaYhba4dGQEHhs3uEe6CuLN4B
yNQwCgYIKoZIzj0EAwIDRwAwRAIge09+S5TZAlw5tgtiVvuERV6cT4mfutXIlwTb
+FYN/8oCIClDsqBklhB9KAelFiYt9+6FDj3z4KGVelYM5MdsO3pK
-----END CERTIFICATE-----
`;

describe('what a CA knows a certificate by', () => {
  it('is that of RFC 9773 for its example, whose serial number has a leading zero', () => {
    expect(renewalInfoId(example)).toBe('aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE');
  });

  it('is not had without the identifier of its issuer’s key, or without a certificate', () => {
    const withoutKey = example.replace('HwYDVR0jBBgw', 'HwYDVR0kBBgw');
    expect(withoutKey).not.toBe(example);
    expect(renewalInfoId(withoutKey)).toBeNull();
    expect(renewalInfoId('')).toBeNull();
    expect(() => renewalInfoId(example.replace('MIIB', 'AAAA'))).toThrow(/cannot be read/);
  });
});
