import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

const DIST = join(import.meta.dirname, "dist");
/** All that the page consists of, compressed. */
const MOST_BYTES = 300_000;

/** Leaves each file compressed beside itself, for build.rs to compile into the binary. */
function compressed(): Plugin {
  return {
    name: "compressed",
    apply: "build",
    buildStart() {
      // Not all of dist: git keeps the directory there with a file of its own.
      for (const old of ["assets", "index.html", "index.html.gz"]) {
        rmSync(join(DIST, old), { recursive: true, force: true });
      }
    },
    closeBundle() {
      let total = 0;
      for (const entry of readdirSync(DIST, { recursive: true, withFileTypes: true })) {
        if (!entry.isFile() || !/\.(html|js|css|svg)$/.test(entry.name)) continue;
        const path = join(entry.parentPath, entry.name);
        const small = gzipSync(readFileSync(path), { level: 9 });
        total += small.length;
        writeFileSync(`${path}.gz`, small);
      }
      console.log(`the page is ${(total / 1000).toFixed(1)} kB, compressed`);
      if (total > MOST_BYTES) throw new Error(`the page is over ${MOST_BYTES / 1000} kB`);
    },
  };
}

export default defineConfig({
  plugins: [react(), compressed()],
  build: {
    target: "es2022",
    emptyOutDir: false,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { host: "localhost", port: 5173, strictPort: true },
});
