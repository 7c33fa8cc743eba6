/** The four networks in onnxruntime-web: one thread, WebAssembly. */

import type { Crop } from "./frontend";
import type { Net } from "./runtime";
import type { Networks, Output } from "./video/detector";

interface Tensor {
  data: unknown;
  dims: readonly number[];
}

interface Session {
  outputNames: readonly string[];
  run(feeds: Record<string, Tensor>): Promise<Record<string, Tensor>>;
}

/** What is used of onnxruntime-web. */
export interface Ort {
  env: { wasm: { numThreads?: number; wasmPaths?: unknown; proxy?: boolean }; logLevel?: string };
  InferenceSession: { create(content: Uint8Array, options: object): Promise<Session> };
  Tensor: new (type: "uint8" | "float32", data: Uint8Array | Float32Array, dims: readonly number[]) => Tensor;
}

/** What the page knows of its net, written by `autohr page` from the header of the weights. */
export interface ModelSettings {
  crop: Crop;
  fps_from: number;
  fps_to: number;
}

/** Load the networks, whose files `read` gives by their names. */
export async function loadNetworks(
  ort: Ort,
  read: (name: string) => Promise<Uint8Array>,
): Promise<{ networks: Networks; net: Net; crop: Crop }> {
  const settings = JSON.parse(new TextDecoder().decode(await read("model.json"))) as ModelSettings;
  const options = { executionProviders: ["wasm"], intraOpNumThreads: 1, logSeverityLevel: 3 };
  const open = async (name: string) => ort.InferenceSession.create(await read(`${name}.onnx`), options);
  const sessions = { pnet: await open("pnet"), rnet: await open("rnet"), onet: await open("onet") };
  const autohr = await open("autohr");
  return {
    crop: settings.crop,
    networks: {
      async run(name, images, dims) {
        const session = sessions[name];
        const outputs = await session.run({ images: new ort.Tensor("uint8", images, dims) });
        return session.outputNames.map((output): Output => outputs[output] as Output);
      },
    },
    net: {
      fpsFrom: settings.fps_from,
      fpsTo: settings.fps_to,
      sizePx: settings.crop.size_px,
      async run(clips, dims) {
        const { bvp } = await autohr.run({ clip: new ort.Tensor("float32", clips, dims) });
        return bvp.data as Float32Array;
      },
    },
  };
}
