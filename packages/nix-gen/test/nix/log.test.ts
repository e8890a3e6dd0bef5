import { expect, test } from "vitest";
import { decodeNixLogLine } from "../../src/nix/log.ts";

test.each([
  [
    '@nix {"action":"start","fields":["/nix/store/x-a.drv","",1,1],"id":5,"level":3,"text":"building","type":105}',
    { kind: "start", id: 5, activity: "build", subject: "/nix/store/x-a.drv" },
  ],
  [
    '@nix {"action":"start","fields":["http://m/a.deb"],"id":6,"level":4,"text":"downloading","type":101}',
    { kind: "start", id: 6, activity: "transfer", subject: "http://m/a.deb" },
  ],
  [
    '@nix {"action":"start","id":7,"level":0,"text":"t","type":102}',
    { kind: "start", id: 7, activity: "other", subject: "t" },
  ],
  [
    '@nix {"action":"result","fields":[10,20,0,0],"id":6,"type":105}',
    { kind: "progress", id: 6, done: 10, expected: 20 },
  ],
  [
    '@nix {"action":"result","fields":["\\u001b[31mred\\u001b[0m"],"id":5,"type":101}',
    { kind: "line", id: 5, text: "red" },
  ],
  ['@nix {"action":"stop","id":5}', { kind: "stop", id: 5 }],
  [
    '@nix {"action":"msg","level":0,"msg":"\\u001b[31;1merror:\\u001b[0m x"}',
    { kind: "message", level: 0, text: "error: x" },
  ],
  ["plain \u001b[1mtext", { kind: "message", level: 0, text: "plain text" }],
  ['@nix {"action":', { kind: "message", level: 0, text: '@nix {"action":' }],
  ["", undefined],
  ["@nix null", undefined],
  ["@nix 1", undefined],
  ['@nix {"action":"start"}', undefined],
  ['@nix {"action":"result","id":1,"type":104,"fields":[]}', undefined],
  ['@nix {"action":"unknown","id":1}', undefined],
])("%s", (line, event) => {
  expect(decodeNixLogLine(line)).toEqual(event);
});
