// Has Mermaid parse the drawings of these Markdown files, and prints how many there are. It wants a document to be there.
import { readFileSync } from 'node:fs';
import { JSDOM } from 'jsdom';

const { window } = new JSDOM('');
globalThis.window = window;
globalThis.document = window.document;
const { default: mermaid } = await import('mermaid');

let drawings = 0;
for (const file of process.argv.slice(2)) {
  for (const [, drawing] of readFileSync(file, 'utf8').matchAll(/^```mermaid\n([\s\S]*?)^```$/gm)) {
    drawings += 1;
    try {
      await mermaid.parse(drawing);
    } catch (error) {
      console.error(`${file}: ${error.message}`);
      process.exitCode = 1;
    }
  }
}
console.log(drawings);
