import type { Target } from '../model/target.ts';
import type { IisHost } from './iis-host.ts';
import { createLabHost } from './lab-host.ts';

/** The host of a target, reached as its record says; nothing is connected yet. */
export function openIisHost({ transport }: Target): IisHost {
  switch (transport.kind) {
    case 'lab':
      return createLabHost(transport);
  }
}
