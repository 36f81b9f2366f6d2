// node validate.mjs FOLDER DOCUMENT: has AsyncAPI's parser, installed under FOLDER, judge DOCUMENT.
// Prints one JSON object; exits 1 when the document has errors.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const [folder, document] = process.argv.slice(2);
const require = createRequire(resolve(folder) + "/");
const { Parser } = require("@asyncapi/parser");
const { AvroSchemaParser } = require("@asyncapi/avro-schema-parser");

const parser = new Parser();
parser.registerSchemaParser(AvroSchemaParser());
const { document: parsed, diagnostics } = await parser.parse(readFileSync(document, "utf8"));
const said = (severities) =>
  diagnostics.filter((d) => severities.includes(d.severity)).map((d) => `${d.path.join(".")}: ${d.message}`);
console.log(
  JSON.stringify({
    channels: parsed?.channels().all().map((channel) => channel.address()) ?? [],
    operations: parsed?.operations().all().length ?? 0,
    errors: said([0]),
    warnings: said([1]),
    hints: said([2, 3]),
  }),
);
process.exit(parsed && said([0]).length === 0 ? 0 : 1);
