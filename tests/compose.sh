#!/usr/bin/env bash
# compose.yaml in a real engine, without the images of others: stand-ins for Prometheus' and Alertmanager's are made from
# Debian's packages under the names that are pinned. Grafana has no such package and is left out. By hand:
#
#   docker build -t throttlescope . && tests/compose.sh      (needs debian:bookworm-slim, root or the group docker)
#
# Nothing outside is measured: the daemon is given one target, the Alertmanager beside it.
set -euo pipefail
cd "$(dirname "$0")/.."

# The second version of Compose where there is one.
if docker compose version > /dev/null 2>&1; then compose=(docker compose); else compose=(docker-compose); fi
"${compose[@]}" version | sed -n 1p
pinned() { sed -n "s|^ *image: \(prom/$1:.*\)|\1|p" compose.yaml; }

# stand_in IMAGE PACKAGE PROGRAM FOLDER: like the original in user, folder and entry point.
stand_in() {
  docker build -q -t "$1" - > /dev/null <<EOF
FROM debian:bookworm-slim
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends $2 wget > /dev/null 2>&1 && mkdir $4 && chown 65534:65534 $4
WORKDIR $4
USER nobody
ENTRYPOINT ["$3"]
EOF
}
stand_in "$(pinned prometheus)" prometheus /usr/bin/prometheus /prometheus
stand_in "$(pinned alertmanager)" prometheus-alertmanager /usr/bin/prometheus-alertmanager /alertmanager

scratch=$(mktemp -d)
cat > "$scratch/config.toml" <<'EOF'
[catalog]
platforms = []
[[target]]
id = "beside/alertmanager"
url = "http://alertmanager:9093/-/ready"
interval = "5s"
EOF
chmod -R a+rX "$scratch"
cat > "$scratch/override.yaml" <<EOF
services:
  throttlescope:
    volumes: ["$scratch/config.toml:/etc/throttlescope/config.toml:ro"]
EOF
compose+=(-p throttlescope-test -f compose.yaml -f "$scratch/override.yaml" --profile demo)
trap '"${compose[@]}" down -v > /dev/null 2>&1 || true; rm -rf "$scratch"' EXIT
services=(throttlescope demo prometheus alertmanager)
started=$SECONDS
"${compose[@]}" up -d --no-build --no-deps "${services[@]}" > "$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }

state() { docker inspect -f '{{.State.Health.Status}}' "$("${compose[@]}" ps -q "$1")"; }
# until SECONDS WHAT COMMAND...
until_true() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ $SECONDS -lt $end ] || { echo "never: $what"; "${compose[@]}" logs --tail 20; exit 1; }
    sleep 1
  done
}
healthy() { [ "$(state "$1")" = healthy ]; }
for service in "${services[@]}"; do
  until_true $((60 - (SECONDS - started))) "$service is healthy" healthy "$service"
  echo "$service healthy after $((SECONDS - started)) s"
done

asked() { curl -fsS "http://127.0.0.1:$1"; }
has() { asked "$1" | grep -q "$2"; }
query() { has "9090/api/v1/query?query=$1" '"value":'; }
until_true 60 "Prometheus scrapes the daemon" query 'up%7Binstance%3D%22localhost:10474%22%7D%3D%3D1'
until_true 60 "Prometheus scrapes the demonstration" query 'up%7Binstance%3D%22localhost:10475%22%7D%3D%3D1'
until_true 60 "Prometheus knows the Alertmanager" has 9090/api/v1/alertmanagers '"activeAlertmanagers":\[{"url":"http://alertmanager:9093'
has 9090/api/v1/rules '"health":"ok"'
has 10475/ emulated
until_true 240 "the demonstration's incident reaches the Alertmanager" has 9093/api/v2/alerts ThrottlescopeIncident
echo "incident of the demonstration at the Alertmanager after $((SECONDS - started)) s"

# Who it runs as, what it may write, how it ends.
container=$("${compose[@]}" ps -q throttlescope)
[ "$(docker inspect -f '{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}' "$container")" = '65534:65534 true [ALL]' ]
docker cp "$container:/var/lib/throttlescope/throttlescope.db" "$scratch/copy.db"
volume=$(docker volume inspect -f '{{.Mountpoint}}' throttlescope-test_store)
[ "$(stat -c %u:%g "$volume")" = 65534:65534 ] && echo "the store belongs to 65534:65534"
"${compose[@]}" stop -t 20 throttlescope demo > /dev/null 2>&1
for service in throttlescope demo; do
  code=$(docker inspect -f '{{.State.ExitCode}}' "$(docker ps -aq -f "name=throttlescope-test.$service.1")")
  [ "$code" = 0 ] && echo "$service ends with 0 on SIGTERM"
done
docker image inspect -f 'image: {{.Size}} bytes' throttlescope
echo passed
