// Bundles Element Web's components and its light theme into dist/: node build.mjs
//
// matrix-react-sdk 3.114.0 is the last that npm has; Element Web's own repository, which took the
// components in afterwards, is in no package registry.
import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";
import { transform } from "@svgr/core";
import * as esbuild from "esbuild";
import postcss from "postcss";
import easings from "postcss-easings";
import hexrgba from "postcss-hexrgba";
import imported from "postcss-import";
import mixins from "postcss-mixins";
import nested from "postcss-nested";
import scss from "postcss-scss";
import variables from "postcss-simple-vars";

const require = createRequire(import.meta.url);
const HERE = import.meta.dirname;
const OUT = path.join(HERE, "dist");
const MODULES = path.join(HERE, "node_modules");
const SDK = path.join(MODULES, "matrix-react-sdk");
const WORKERS = ["indexeddb", "blurhash", "playback"];

// What Element leaves to webpack's loaders.
const webpackless = {
  name: "webpackless",
  setup(build) {
    const nothing = () => ({ contents: 'export default "";' });
    build.onResolve({ filter: /^opus-recorder|^!!raw-loader/ }, ({ path }) => ({ path, namespace: "nothing" }));
    build.onLoad({ filter: /.*/, namespace: "nothing" }, nothing);
    build.onResolve({ filter: /^\$webapp\// }, ({ path }) => ({ path, namespace: "languages" }));
    build.onLoad({ filter: /.*/, namespace: "languages" }, () => ({
      contents: 'export default "i18n/languages.json";',
    }));
    // Its compiled files name TypeScript sources, which are beside them as JavaScript.
    build.onResolve({ filter: /^\..*\.tsx?$|^matrix-react-sdk\/src|\.\.\/src\// }, (wanted) => {
      if (!wanted.importer.includes("matrix-react-sdk")) return undefined;
      const inSources = wanted.path.match(/(?:^|\/)src\/(.*)$/);
      const bare = (inSources?.[1] ?? wanted.path).replace(/\.tsx?$/, "");
      const base = inSources ? path.join(SDK, "lib") : wanted.resolveDir;
      return [`${bare}.js`, `${bare}/index.js`]
        .map((name) => path.resolve(base, name))
        .filter((file) => fs.existsSync(file))
        .map((file) => ({ path: file }))[0];
    });
    build.onLoad({ filter: /(WorkerFactory|WorkletFactory)\.js$/ }, ({ path: file }) => ({
      contents: `export default () => new Worker("/${path.basename(file).replace("WorkerFactory", ".worker")}");`,
    }));
    build.onLoad({ filter: /\.svg$/ }, async ({ path: file }) => {
      const source = await fs.promises.readFile(file, "utf8");
      const component = await transform(
        source,
        { exportType: "named", namedExport: "Icon", plugins: ["@svgr/plugin-jsx"], jsxRuntime: "classic" },
        { componentName: "Icon", filePath: file },
      );
      const url = `data:image/svg+xml;base64,${Buffer.from(source).toString("base64")}`;
      return {
        contents: `${component.replace(/export \{ .*\};?/, "")}
          export { Icon, Icon as ReactComponent };
          export default ${JSON.stringify(url)};`,
        loader: "jsx",
        resolveDir: path.dirname(file),
      };
    });
  },
};

async function bundle() {
  const common = { bundle: true, platform: "browser", logLevel: "error", loader: { ".js": "jsx" } };
  await esbuild.build({
    ...common,
    entryPoints: [path.join(HERE, "shell.jsx")],
    outdir: OUT,
    format: "esm",
    splitting: true,
    inject: [path.join(HERE, "globals.mjs")],
    define: { "process.env.NODE_ENV": '"production"', global: "window" },
    loader: { ".js": "jsx", ".png": "file", ".gif": "file", ".woff2": "file", ".wasm": "file", ".md": "text" },
    mainFields: ["browser", "module", "main"],
    publicPath: "/",
    plugins: [webpackless],
  });
  for (const name of WORKERS) {
    await esbuild.build({
      ...common,
      entryPoints: [path.join(SDK, "lib", "workers", `${name}.worker.js`)],
      outfile: path.join(OUT, `${name}.worker.js`),
      format: "iife",
      define: { global: "self" },
    });
  }
}

function found(id, folder) {
  const beside = path.resolve(folder, id);
  return fs.existsSync(beside) ? beside : path.join(MODULES, id);
}

async function theme() {
  const file = path.join(SDK, "res", "themes", "light", "css", "light.pcss");
  const plugins = [
    imported({ resolve: found, warnOnEmpty: false }),
    mixins(),
    variables({ silent: true }),
    hexrgba(),
    nested(),
    easings(),
  ];
  const made = await postcss(plugins).process(fs.readFileSync(file, "utf8"), { from: file, syntax: scss });
  fs.mkdirSync(path.join(OUT, "res"));
  const css = made.css
    .replace(/^\s*\/\/.*$/gm, "")
    .replace(/url\(\s*(['"]?)([^'")]+)\1\s*\)/g, (whole, _quote, url) => {
      const bare = url.split("?")[0];
      const inside = bare.match(/(?:^|\/)((?:img|fonts)\/.*)$/);
      const source = inside ? path.join(SDK, "res", inside[1]) : path.join(MODULES, bare);
      if (/^(data:|#|https?:)/.test(url) || !fs.existsSync(source)) return whole;
      const name = `res/${path.basename(path.dirname(source))}-${path.basename(source)}`;
      fs.copyFileSync(source, path.join(OUT, name));
      return `url("/${name}")`;
    });
  // A bare machine has no emoji, and Element uses its own only for whom it asks.
  const emoji = path.join(SDK, "res/fonts/Twemoji_Mozilla/TwemojiMozilla-colr.woff2");
  fs.copyFileSync(emoji, path.join(OUT, "res/emoji.woff2"));
  const range = "U+2600-27BF, U+2B50, U+FE0F, U+1F000-1FAFF";
  const face = (name) =>
    `@font-face { font-family: "${name}"; src: url("/res/emoji.woff2"); unicode-range: ${range}; }`;
  fs.writeFileSync(path.join(OUT, "theme.css"), [css, ...["Inter", "Inconsolata"].map(face), ""].join("\n"));
}

function page() {
  fs.mkdirSync(path.join(OUT, "i18n"));
  fs.copyFileSync(path.join(SDK, "src/i18n/strings/en_EN.json"), path.join(OUT, "i18n/en_EN.json"));
  fs.writeFileSync(path.join(OUT, "i18n/languages.json"), JSON.stringify({ en: "en_EN.json" }));
  fs.copyFileSync(path.join(HERE, "worker.mjs"), path.join(OUT, "worker.mjs"));
  fs.writeFileSync(
    path.join(OUT, "index.html"),
    `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Element</title>
<link rel="stylesheet" href="/theme.css"><link rel="stylesheet" href="/shell.css"></head>
<body><section id="matrixchat" style="height: 100%"></section>
<script type="module" src="/shell.js"></script></body></html>\n`,
  );
}

fs.rmSync(OUT, { recursive: true, force: true });
fs.mkdirSync(OUT);
await bundle();
await theme();
page();
