#!/bin/sh
# A worker that has a bad day: it hangs, crashes again and again, and is healthy in the end.
#
#     backstay run --name worker --health output --timeout 2s --backoff 500ms --max-crashes 4 --cooldown 5s -- sh bad-day.sh

trap 'echo "worker: closes its books"; exit 0' TERM INT

work() {
    echo "worker: order $1 done"
    sleep 1 &
    wait $! # unlike a plain sleep, it hears signals
}

case ${BACKSTAY_RESTARTS:-0} in # how often it was started again
0)
    work 1
    work 2
    echo "worker: waits for an answer that never comes"
    exec sleep 1000
    ;;
1 | 2 | 3)
    echo "worker: no database"
    exit 1
    ;;
*)
    order=3
    while :; do
        work $order
        order=$((order + 1))
    done
    ;;
esac
