#!/usr/bin/env bash
# kvnode-ready: is the node in this container ready for clients? Exit 0 if so, else 1 with the
# checks that fail. Asked every few seconds for years, so it is no Python program: bash speaks TCP,
# and one look costs a few milliseconds instead of a few hundred.
set -uo pipefail

address=${KVNODE_ADMIN:-127.0.0.1:8379}
host=${address%:*}
port=${address##*:}
host=${host#[}
host=${host%]}
case $host in
    0.0.0.0) host=127.0.0.1 ;;
    ::) host=::1 ;;
esac

if ! exec 3<>"/dev/tcp/$host/$port"; then
    exit 1 # bash has said why
fi
printf 'GET /readyz?verbose HTTP/1.0\r\n\r\n' >&3
code=
IFS=' ' read -r -t 2 _ code _ <&3
if [[ $code == 200 ]]; then
    exit 0
fi
if [[ -z $code ]]; then
    echo "the admin port $address does not answer"
    exit 1
fi
is_body=
while IFS= read -r -t 2 line; do
    line=${line%$'\r'}
    if [[ -z $line ]]; then is_body=1; fi
    if [[ $is_body && $line == "[-]"* ]]; then echo "$line"; fi
done <&3
exit 1
