#!/bin/sh
# Run by `cargo xtask package --check` as a service of a clean Debian, see boot.sh: installs the package that lies beside
# it, tries what is in it, purges it, and looks for what is left.
set -eu

fail() {
    echo "FAILED: $*"
    [ ! -s /datapath.log ] || { echo "--- log of the daemon" && tail -n 20 /datapath.log; }
    exit 1
}

step() {
    echo "  $*"
}

# Every file, but for what dpkg and systemd themselves keep, and what this check is.
files() {
    find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/tmp \) -prune -o -print |
        grep -v -e '^/var/lib/dpkg' -e '^/var/lib/systemd' -e '^/var/log' -e '^/var/cache' -e '^/var/lib/\(docker\|containerd\)' -e '^/\(etc/docker\|etc/cni\|opt\)' -e '^/[a-z]*\.\(log\|sh\|deb\)$' | sort
}

property() {
    systemctl show "$1" --property "$2" --value
}

ip link set lo up
files >/tmp/before

step "install: the files are there, and the service runs"
dpkg -i /datapath.deb >/tmp/install.log 2>&1 || fail "$(cat /tmp/install.log)"
for file in /usr/bin/datapath /etc/datapath/config.toml /usr/share/man/man1/datapath.1.gz \
    /usr/share/man/man1/datapath-docker-enable.1.gz /usr/share/bash-completion/completions/datapath \
    /usr/share/zsh/vendor-completions/_datapath /usr/share/fish/vendor_completions.d/datapath.fish \
    /usr/share/doc/datapath/copyright /usr/share/doc/datapath/LICENSE-MIT /usr/share/doc/datapath/LICENSE-APACHE; do
    [ -s "$file" ] || fail "$file is missing or empty"
done
gzip -dc /usr/share/man/man1/datapath.1.gz | grep -q '^\.TH datapath 1' || fail "the man page is none"
dpkg-query -W -f '${Conffiles}' datapath | grep -q /etc/datapath/config.toml || fail "the configuration is no conffile"
[ "$(property datapath UnitFileState)" = enabled ] || fail "the service is not enabled"
[ "$(property datapath ActiveState)" = active ] || fail "the service does not run: $(systemctl status datapath 2>&1)"
datapath --version | grep -q '^datapath [0-9]' || fail "no version"

step "the unit: no complaint of systemd's, and protected"
unit=$(dpkg -L datapath | grep '/datapath\.service$') || fail "there is no unit"
systemd-analyze verify --man=no "$unit" >/tmp/verify.log 2>&1 || fail "$(cat /tmp/verify.log)"
[ ! -s /tmp/verify.log ] || fail "$(cat /tmp/verify.log)"
# In tenths; 100 is no protection at all. What a network daemon needs keeps it from going lower.
systemd-analyze security --offline=true --threshold=45 "$unit" >/tmp/security.log 2>&1 ||
    fail "the unit is less protected than it was: $(tail -n 1 /tmp/security.log)"

step "as a service it can do all it is for"
ip netns add container
datapath network create app --ipv6 >/dev/null || fail "no network can be made"
datapath attach container --network app --name web >/dev/null || fail "nothing can be attached"
datapath publish 80:80 web >/dev/null && datapath publish 8000-8010:8000-8010/udp web >/dev/null || fail "nothing can be published"
ip netns exec container ip -4 -o addr show dev eth0 | grep -q inet || fail "the container has no address"
datapath doctor >/tmp/doctor.log || fail "$(cat /tmp/doctor.log)"
grep -q 'bpf_filesystem: mounted' /tmp/doctor.log || fail "the service does not see the BPF file system"
[ "$(property datapath WatchdogUSec)" = 1min ] && [ "$(property datapath WatchdogTimestampMonotonic)" != 0 ] ||
    fail "the watchdog is not served"

step "killed, it is started again and has all it had"
before=$(datapath port ls)
pid=$(property datapath MainPID)
kill -9 "$pid"
for _ in $(seq 300); do
    # In this order: until systemd has noticed its end, the state is still that of the old one.
    [ "$(property datapath MainPID)" = "$pid" ] || [ "$(property datapath ActiveState)" != active ] || break
    sleep 0.1
done
[ "$(property datapath MainPID)" != "$pid" ] && [ "$(datapath port ls)" = "$before" ] || fail "it is not what it was"

step "an upgrade restarts it"
pid=$(property datapath MainPID)
dpkg -i /datapath.deb >/tmp/upgrade.log 2>&1 || fail "$(cat /tmp/upgrade.log)"
[ "$(property datapath ActiveState)" = active ] && [ "$(property datapath MainPID)" != "$pid" ] || fail "the old one runs on"
[ "$(datapath port ls)" = "$before" ] || fail "it is not what it was"

step "a stock Docker host: enable"
# busybox in a container, from a file: there is no registry.
mkdir -p /tmp/image/bin
cp /usr/bin/busybox /tmp/image/bin/
tar -C /tmp/image -cf /tmp/image.tar .
systemctl start docker || fail "no dockerd: $(tail -n 20 /docker.log)"
docker import /tmp/image.tar busybox >/dev/null
docker run --detach --restart always --name site --publish 8080:80 busybox \
    /bin/busybox httpd -f -p 80 >/dev/null || fail "docker runs nothing: $(tail -n 20 /docker.log)"
answers() {
    for _ in $(seq 100); do
        printf 'GET / HTTP/1.0\r\n\r\n' | timeout 1 busybox nc "$1" "$2" 2>/dev/null | grep -q '^HTTP/1' && return 0
        sleep 0.1
    done
    return 1
}
rules() {
    for save in iptables-save ip6tables-save iptables-legacy-save ip6tables-legacy-save; do $save 2>/dev/null; done | grep '^-A'
}
answers 127.0.0.1 8080 || fail "what stock dockerd publishes does not answer"
pgrep -x docker-proxy >/dev/null && rules | grep -q DOCKER || fail "this dockerd is not as it comes"
cp /etc/datapath/config.toml /tmp/config.toml
datapath docker enable --dry-run >/tmp/dry.log || fail "no dry run"
grep -q '^+docker = true' /tmp/dry.log && grep -q '^+.*"userland-proxy": false' /tmp/dry.log ||
    fail "the dry run does not show all: $(cat /tmp/dry.log)"
cmp -s /tmp/config.toml /etc/datapath/config.toml && [ ! -e /etc/docker/daemon.json ] || fail "the dry run changed something"
datapath docker enable >/tmp/enable.log 2>&1 || fail "$(cat /tmp/enable.log)"
grep -q 'systemctl restart docker' /tmp/enable.log || fail "what remains is not said: $(cat /tmp/enable.log)"
answers 127.0.0.1 8080 || fail "until dockerd is restarted, nothing answers"
datapath docker enable --restart >/tmp/enable.log 2>&1 || fail "$(cat /tmp/enable.log)"
answers 127.0.0.1 8080 || fail "nothing answers: $(datapath port ls; datapath docker status)"
! pgrep -x docker-proxy >/dev/null || fail "docker-proxy runs"
[ -z "$(rules)" ] || fail "rules are left: $(rules)"
datapath port ls | grep -q site || fail "the datapath does not publish it: $(datapath port ls)"
# Whose it is nobody can know: it is left to the user, with a line to enter.
iptables-nft -P FORWARD ACCEPT
! datapath docker status | grep -e ERROR -e WARNING || fail "$(datapath docker status)"
datapath docker enable --restart | grep -q restarted && fail "a second time does something" || true

step "removal is refused while dockerd relies on it"
! dpkg -r datapath >/tmp/refused.log 2>&1 || fail "it was removed"
grep -q 'docker disable' /tmp/refused.log || fail "no remedy: $(cat /tmp/refused.log)"
[ "$(property datapath ActiveState)" = active ] || fail "the service was stopped"

step "and back"
datapath docker disable --restart >/tmp/disable.log 2>&1 || fail "$(cat /tmp/disable.log)"
cmp -s /tmp/config.toml /etc/datapath/config.toml && [ ! -e /etc/docker/daemon.json ] || fail "the files are not what they were"
answers 127.0.0.1 8080 || fail "what stock dockerd publishes does not answer"
pgrep -x docker-proxy >/dev/null && rules | grep -q DOCKER || fail "dockerd is not what it was"
! datapath network ls | grep -q bridge || fail "the datapath still serves Docker's networks: $(datapath network ls)"
docker rm --force site >/dev/null
docker image rm busybox >/dev/null
systemctl stop docker.socket docker containerd

step "removal ends it and keeps the configuration"
echo '# mine' >>/etc/datapath/config.toml
dpkg -r datapath >/tmp/remove.log 2>&1 || fail "$(cat /tmp/remove.log)"
grep -q '^# mine$' /etc/datapath/config.toml || fail "the configuration is gone"
[ ! -e /sys/fs/bpf/datapath ] || fail "pins are left: $(find /sys/fs/bpf/datapath) $(cat /tmp/remove.log)"
! ip link | grep dp- || fail "devices are left"
ip netns del container

step "purge leaves nothing"
dpkg -P datapath >/tmp/purge.log 2>&1 || fail "$(cat /tmp/purge.log)"
[ ! -e /run/datapath ] || fail "/run/datapath is left"
files >/tmp/after
diff /tmp/before /tmp/after >/tmp/left || fail "left behind or taken away: $(cat /tmp/left)"
echo "passed"
