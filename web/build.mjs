// Bundles the sources into what `autohr page` copies: src/autohr/tab/page. `node build.mjs OUT` writes elsewhere.
import { build } from "esbuild";

const out = process.argv[2] ?? "../src/autohr/tab/page";
await build({
  entryPoints: { autohr: "src/index.ts", page: "src/page/page.ts" },
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  outdir: out,
});
