// Calls the functions of the page's rooms for tests/test_tab.py: one JSON request a line in, one JSON answer a line out.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const rooms = await import(pathToFileURL(process.argv[2]));

// Lists of numbers are arrays of doubles, in which null is NaN; {"$": ...} is an array of bytes or of float32.
function revive(value) {
  if (Array.isArray(value)) {
    const isRow = value.length > 0 && value.every((one) => typeof one === "number" || one === null);
    return isRow ? Float64Array.from(value, (one) => one ?? NaN) : value.map(revive);
  }
  if (value === null || typeof value !== "object") return value;
  if ("$" in value) {
    const bytes = new Uint8Array(Buffer.from(value.$, "base64"));
    return value.float ? new Float32Array(bytes.buffer) : bytes;
  }
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, revive(one)]));
}

function plain(value) {
  if (value instanceof Uint8Array) return { $: Buffer.from(value).toString("base64") };
  if (value instanceof Float32Array) {
    return { $: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64"), float: true };
  }
  if (ArrayBuffer.isView(value)) return Array.from(value, (one) => (Number.isFinite(one) ? one : null));
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === "number") return Number.isFinite(value) ? value : null;
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, plain(one)]));
}

for await (const line of createInterface({ input: process.stdin })) {
  const { room, name, args } = JSON.parse(line);
  let answer;
  try {
    const value = rooms[room][name];
    answer = { value: plain(typeof value === "function" ? await value(...args.map(revive)) : value) };
  } catch (error) {
    answer = { error: `${error.constructor.name}: ${error.message}`, stack: error.stack };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
