// A complete receiver of webhooks: WEBHOOK_SECRET=whsec_… PORT=8080 node receiver.js
"use strict";
const { createHmac, timingSafeEqual } = require("node:crypto");
const { createServer } = require("node:http");

const tolerance = 5 * 60; // seconds; older messages may be replayed by somebody who has seen one

// verify checks the header webhook-signature (https://www.standardwebhooks.com) of the exact bytes of a body.
function verify(secret, headers, body) {
  const id = headers["webhook-id"];
  const timestamp = headers["webhook-timestamp"];
  if (!(Math.abs(Date.now() / 1000 - Number(timestamp)) <= tolerance)) return false;
  const key = secret.startsWith("whsec_") ? Buffer.from(secret.slice(6), "base64") : Buffer.from(secret);
  const want = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest();
  // Two signatures while a secret is rotated.
  return (headers["webhook-signature"] ?? "").split(" ").some((signature) => {
    const got = Buffer.from(signature.replace(/^v1,/, ""), "base64");
    return signature.startsWith("v1,") && got.length === want.length && timingSafeEqual(got, want);
  });
}

const seen = new Set(); // a database in real life: an event may come again after a restart

createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const valid = verify(process.env.WEBHOOK_SECRET, request.headers, Buffer.concat(chunks));
    if (valid && !seen.has(request.headers["webhook-id"])) {
      seen.add(request.headers["webhook-id"]);
      console.log("received", request.headers["x-pabbly-event"]);
    }
    response.writeHead(valid ? 204 : 401).end();
  });
}).listen(Number(process.env.PORT), "127.0.0.1");
