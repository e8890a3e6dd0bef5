// Built code that says which of its places have run: what guides the choice of inputs. A place says so once and costs the
// test of a byte from then on, so that every input is watched and decoders are about as fast as they are without it.
import { readdir, readFile } from "node:fs/promises";
import ts from "typescript";

const { factory } = ts;
const SHORT_CIRCUITS = new Set([
  ts.SyntaxKind.AmpersandAmpersandToken,
  ts.SyntaxKind.BarBarToken,
  ts.SyntaxKind.QuestionQuestionToken,
  ts.SyntaxKind.AmpersandAmpersandEqualsToken,
  ts.SyntaxKind.BarBarEqualsToken,
  ts.SyntaxKind.QuestionQuestionEqualsToken,
]);
const made = new Map();

/**
 * Instruments modules, once in a process.
 *
 * @param code - URL of a module, or of a folder of modules, which ends with `/`.
 * @returns Sources by URL.
 */
export function instrumented(code) {
  if (!made.has(code.href)) made.set(code.href, instrumentAll(code));
  return made.get(code.href);
}

async function instrumentAll(code) {
  const names = code.href.endsWith("/") ? await readdir(code) : [""];
  const urls = names.map((name) => new URL(name, code)).filter(({ pathname }) => /\.m?js$/.test(pathname));
  return new Map(await Promise.all(urls.map(async (url) => [url.href, instrument(await readFile(url, "utf8"))])));
}

/**
 * Marks wherever the code can go one way or another: functions, branches, loops, cases, and what is to the right of a
 * short circuit.
 *
 * @param source - An ECMAScript module.
 * @returns A module that asks `globalThis.watchPlaces`, see coverage.mjs, for what its marks are to use.
 */
function instrument(source) {
  let places = 0;
  const mark = () => {
    const place = factory.createNumericLiteral(places);
    places += 1;
    const isSeen = factory.createElementAccessExpression(factory.createIdentifier("$seen"), place);
    const reach = factory.createCallExpression(factory.createIdentifier("$reach"), undefined, [place]);
    return factory.createLogicalOr(isSeen, reach);
  };
  const statements = (list) => [factory.createExpressionStatement(mark()), ...list];
  const expression = (node) => factory.createParenthesizedExpression(factory.createComma(mark(), node));
  const transform = (context) => {
    const visit = (node) => marked(ts.visitEachChild(node, visit, context));
    return (file) => ts.visitEachChild(file, visit, context);
  };
  const marked = (node) => {
    // Bodies of functions and loops, branches, what is tried and what is caught.
    if (ts.isBlock(node)) return factory.updateBlock(node, statements(node.statements));
    if (ts.isArrowFunction(node) && !ts.isBlock(node.body)) {
      const { modifiers, parameters, equalsGreaterThanToken: arrow, body } = node;
      return factory.updateArrowFunction(node, modifiers, undefined, parameters, undefined, arrow, expression(body));
    }
    if (ts.isIfStatement(node)) {
      const { expression: condition, thenStatement, elseStatement } = node;
      const then = ts.isBlock(thenStatement) ? thenStatement : factory.createBlock(statements([thenStatement]));
      const otherwise = elseStatement ?? factory.createBlock(statements([]));
      return factory.updateIfStatement(node, condition, then, otherwise);
    }
    if (ts.isCaseClause(node)) return factory.updateCaseClause(node, node.expression, statements(node.statements));
    if (ts.isDefaultClause(node)) return factory.updateDefaultClause(node, statements(node.statements));
    if (ts.isConditionalExpression(node)) {
      const { condition, questionToken, whenTrue, colonToken, whenFalse } = node;
      const [yes, no] = [expression(whenTrue), expression(whenFalse)];
      return factory.updateConditionalExpression(node, condition, questionToken, yes, colonToken, no);
    }
    if (ts.isBinaryExpression(node) && SHORT_CIRCUITS.has(node.operatorToken.kind)) {
      return factory.updateBinaryExpression(node, node.left, node.operatorToken, expression(node.right));
    }
    return node;
  };
  const { outputText } = ts.transpileModule(source, {
    compilerOptions: { target: ts.ScriptTarget.ESNext, module: ts.ModuleKind.ESNext },
    transformers: { before: [transform] },
  });
  return `const { seen: $seen, reach: $reach } = globalThis.watchPlaces(${places});\n${outputText}`;
}
