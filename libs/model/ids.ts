import { ulid } from "ulid";

const prefixes = {
	order: "ord",
	account: "acc",
	target: "tgt",
	certificate: "crt",
	apiKey: "key",
	privateKey: "pk",
} as const;

/** A new id: a prefix that says of what, and a ULID, which sorts by time of creation. */
export function newId(kind: keyof typeof prefixes, now: number): string {
	return `${prefixes[kind]}_${ulid(now)}`;
}
