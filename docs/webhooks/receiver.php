<?php
// A complete receiver of webhooks: WEBHOOK_SECRET=whsec_… php -S 127.0.0.1:8080 receiver.php
declare(strict_types=1);

const TOLERANCE = 5 * 60; // seconds; older messages may be replayed by somebody who has seen one

// Checks the header webhook-signature (https://www.standardwebhooks.com) of the exact bytes of a body.
function verify(string $secret, array $server, string $body): bool
{
    $id = $server['HTTP_WEBHOOK_ID'] ?? '';
    $timestamp = $server['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
    if (!ctype_digit($timestamp) || abs(time() - (int) $timestamp) > TOLERANCE) {
        return false;
    }
    $key = str_starts_with($secret, 'whsec_') ? base64_decode(substr($secret, 6)) : $secret;
    $want = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $key, true));
    foreach (explode(' ', $server['HTTP_WEBHOOK_SIGNATURE'] ?? '') as $got) { // two while a secret is rotated
        if (hash_equals($want, $got)) {
            return true;
        }
    }
    return false;
}

if (!verify(getenv('WEBHOOK_SECRET'), $_SERVER, file_get_contents('php://input'))) {
    http_response_code(401);
    exit;
}
// Here: insert the webhook-id into a table with a unique key, and do the work only if it was not there. An event may come twice.
error_log('received ' . ($_SERVER['HTTP_X_PABBLY_EVENT'] ?? ''));
http_response_code(204);
