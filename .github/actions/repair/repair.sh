#!/usr/bin/env bash
# Repairs an issue of the repository in the current folder and pushes the branch. All it is told are variables.
set -euo pipefail

[[ "$ISSUE" =~ ^[0-9]+$ ]] || { echo "The issue must be a number." >&2; exit 2; }
branch=${BRANCH:-"amini/issue-$ISSUE-${GITHUB_RUN_ID:-0}-${GITHUB_RUN_ATTEMPT:-1}"}
read -ra arguments <<<"$ARGUMENTS"
# Empty means: not given.
[ -n "$AMINI_MODEL" ] || unset AMINI_MODEL
[ -n "$AMINI_API_KEY" ] || unset AMINI_API_KEY

# amini comes from the same commit as this action, with the versions of its lock.
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
code=0
uv run --quiet --frozen --project "$source" \
  amini repair . "$GITHUB_REPOSITORY#$ISSUE" --commit "$branch" "${arguments[@]}" >/dev/null || code=$?
case $code in
  0) ;;
  1 | 5) echo "No patch that is good enough was found; nothing is pushed." >&2; exit 0 ;;
  *) exit "$code" ;;
esac
git push --quiet origin "refs/heads/$branch:refs/heads/$branch"
echo "branch=$branch" >>"$GITHUB_OUTPUT"
