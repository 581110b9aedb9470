#!/usr/bin/env bash
# Walks through the API with curl. Start a server first:  make run
#
#   examples/curl-tour.sh [URL] [TENANT]
#
# It makes, changes, pauses, resumes, runs and deletes the schedule of TENANT (default: tour-guest),
# which must not exist yet. It stops at the first answer that is not the expected one.
set -euo pipefail

url=${1:-http://127.0.0.1:8000}
tenant=${2:-tour-guest}
api=$url/api/crm/import/acculynx
body=$(mktemp)
headers=$(mktemp)
trap 'rm -f "$body" "$headers"' EXIT

# call EXPECTED_STATUS TITLE CURL_ARGUMENTS...
call() {
  local expected=$1 title=$2 status
  shift 2
  status=$(curl --silent --show-error --output "$body" --dump-header "$headers" --write-out '%{http_code}' "$@")
  printf '\n== %s -> %s\n' "$title" "$status"
  # Long answers are cut: this is a tour, not a log.
  cut -c -400 "$body" | head -n 12
  echo
  if [ "$status" != "$expected" ]; then
    echo "expected $expected; stopping" >&2
    exit 1
  fi
}

etag() { awk 'tolower($1) == "etag:" { print $2 }' "$headers" | tr -d '\r'; }

operator=(-H 'x-ops: 1' -H 'X-User-Name: tour' -H "x-tenant: $tenant")
json=(-H 'content-type: application/json')

call 200 'ping (public)' "$url/ops/ping"
call 200 'health (public)' "$url/ops/health"
call 200 'status of one tenant (public)' "$api/schedule/status?tenant=peakpro"
call 403 'a protected route without a role' "$url/ops/db"
call 200 'who the server takes us for' "${operator[@]}" "$url/ops/whoami"
call 404 'no schedule yet' "${operator[@]}" -X POST "$api/pause"
call 200 'create' "${operator[@]}" "${json[@]}" -X POST -d '{"interval_sec":300,"labels":{"region":"north"}}' "$api/schedule"
call 422 'a misspelt key' "${operator[@]}" "${json[@]}" -X POST -d '{"intervall_sec":60}' "$api/schedule"
call 200 'read, with its ETag' "${operator[@]}" "$api/schedule"
old=$(etag)
call 200 'change: cron displaces interval_sec, null removes' "${operator[@]}" "${json[@]}" -H "If-Match: $old" \
  -X POST -d '{"cron":"0 6 * * 1-5","timezone":"America/Denver","labels":null}' "$api/schedule"
call 412 'the old ETag again' "${operator[@]}" "${json[@]}" -H "If-Match: $old" -X POST -d '{"interval_sec":60}' "$api/schedule"
call 200 'pause' "${operator[@]}" "${json[@]}" -X POST -d '{"reason":"key is being rotated"}' "$api/pause"
key="tour-$$-$(date +%s)"
call 200 'run now, also while paused' "${operator[@]}" -H "Idempotency-Key: $key" -X POST "$api/run-now?wait=60"
call 200 'the same request again: the same answer, no second run' "${operator[@]}" -H "Idempotency-Key: $key" -X POST "$api/run-now?wait=60"
grep -i '^idempotent-replay' "$headers"
call 200 'resume' "${operator[@]}" -X POST "$api/resume"
call 200 'what this directory would change' "${operator[@]}" "${json[@]}" -X POST \
  -d '{"files":{"schedules/acculynx/'"$tenant"'.yaml":"interval_sec: 60\n"}}' "$url/ops/diff"
call 200 'delete' "${operator[@]}" -X DELETE "$api/schedule"
call 200 'its history stays' "${operator[@]}" "$api/schedule/history?limit=3"
call 200 'back to its first revision: there it is again' "${operator[@]}" "${json[@]}" -X POST \
  -d '{"to":1,"reason":"deleted too soon"}' "$api/schedule/rollback"
call 200 'delete it again' "${operator[@]}" -X DELETE "$api/schedule"
call 200 'its audit stays' "${operator[@]}" "$api/audit?tenant=$tenant&limit=3"
call 200 'the chain' "${operator[@]}" "$url/ops/audit/verify"
call 200 'drift' "${operator[@]}" "$url/ops/drift"
printf '\nThe tour is over.\n'
