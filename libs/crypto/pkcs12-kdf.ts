import { hash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { utf16be } from './der.ts';

/** What a derived value is for: the ID byte of RFC 7292 §B.3. */
export const purpose = { key: 1, iv: 2, mac: 3 } as const;

export type Pkcs12Hash = 'sha1' | 'sha256';

const outputBytes = { sha1: 20, sha256: 32 } as const;
/** Both hashes take blocks of 64 bytes: `v` of RFC 7292 §B.2. */
const blockBytes = 64;

export interface Pkcs12KdfInput {
  password: string;
  salt: Buffer;
  iterations: number;
  purpose: (typeof purpose)[keyof typeof purpose];
  /** How many bytes to derive. */
  length: number;
  hash: Pkcs12Hash;
}

/**
 * The key derivation of RFC 7292 appendix B.2, which node's crypto does not offer.
 * The password goes in as a BMPString with its two zero bytes at the end (§B.1).
 *
 * 2048 iterations take some ms, so the event loop gets a turn after every block of output.
 */
export async function derivePkcs12(input: Pkcs12KdfInput): Promise<Buffer> {
  const password = Buffer.concat([utf16be(input.password), Buffer.alloc(2)]);
  const diversifier = Buffer.alloc(blockBytes, input.purpose);
  const state = Buffer.concat([repeatToBlocks(input.salt), repeatToBlocks(password)]);
  const blocks: Buffer[] = [];
  const count = Math.ceil(input.length / outputBytes[input.hash]);
  for (let made = 0; made < count; made++) {
    let block = Buffer.concat([diversifier, state]);
    for (let round = 0; round < input.iterations; round++) block = hash(input.hash, block, 'buffer');
    blocks.push(block);
    addToEachBlock(state, Buffer.alloc(blockBytes, block));
    await nextTurn();
  }
  return Buffer.concat(blocks).subarray(0, input.length);
}

/** Copies of the bytes until they fill whole blocks; the last copy may be cut. */
function repeatToBlocks(bytes: Buffer): Buffer {
  const length = Math.ceil(bytes.length / blockBytes) * blockBytes;
  return Buffer.alloc(length, bytes);
}

/** I_j = (I_j + B + 1) mod 2^512 for each block of the state, step 6.C. */
function addToEachBlock(state: Buffer, addend: Buffer): void {
  for (let start = 0; start < state.length; start += blockBytes) {
    let carry = 1;
    for (let at = blockBytes - 1; at >= 0; at--) {
      carry += state.readUInt8(start + at) + addend.readUInt8(at);
      state.writeUInt8(carry & 0xff, start + at);
      carry >>= 8;
    }
  }
}
