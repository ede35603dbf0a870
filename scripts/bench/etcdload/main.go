// Command etcdload asks etcd as fast as it answers, and says what that took.
//
// A benchmark is only as fair as its slowest client, so this one is native and thin: the generated
// gRPC stubs without the balancer and retry layers of clientv3. A closed loop: every client has one
// request in flight and sends the next one when the reply is there. Clients share a few
// connections, since HTTP/2 carries many requests on one and each further connection costs system
// calls on both sides. Ranges are linearizable (the default of etcd).
//
// It prints one JSON object: operations per second, latency percentiles in milliseconds, and the
// user and system time of this process, without dialling. It ends with status 1 on the first error:
// a figure of a run that failed in part would compare nothing.
//
// Built against Debian's golang-etcd-server-dev, offline (as scripts/bench/peers.py does it):
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go build -o etcdload ./scripts/bench/etcdload
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/etcdserver/etcdserverpb"
	"google.golang.org/grpc"
)

const (
	clientsMax     = 10000
	connectionsMax = 1000
	requestsMax    = 10000000
	valueBytesMax  = 1 << 20
)

// load is one question: what to ask, how often, and by how many at once.
type load struct {
	endpoints   []string
	operation   string
	clients     int
	connections int
	requests    int
	keys        int
	valueBytes  int
	deadline    time.Duration
}

// report is the answer, as it is printed.
type report struct {
	Operation   string  `json:"operation"`
	Clients     int     `json:"clients"`
	Connections int     `json:"connections"`
	Requests    int     `json:"requests"`
	Seconds     float64 `json:"seconds"`
	OpsPerS     float64 `json:"ops_per_s"`
	P50Ms       float64 `json:"p50_ms"`
	P99Ms       float64 `json:"p99_ms"`
	CPUSeconds  float64 `json:"cpu_seconds"`
}

func main() {
	question, err := parse(os.Args[1:])
	if err == nil {
		err = answer(question)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "etcdload:", err)
		os.Exit(1)
	}
}

// parse reads the command line. Everything has an upper bound, so that a slip of the finger cannot
// take the machine down.
func parse(arguments []string) (load, error) {
	var q load
	flags := flag.NewFlagSet("etcdload", flag.ExitOnError)
	endpoints := flags.String("endpoints", "127.0.0.1:2379", "host:port, comma separated")
	flags.StringVar(&q.operation, "operation", "put", "put or range")
	flags.IntVar(&q.clients, "clients", 1, "requests in flight")
	flags.IntVar(&q.connections, "connections", 1, "shared by the clients, spread over the endpoints")
	flags.IntVar(&q.requests, "requests", 1000, "in all")
	flags.IntVar(&q.keys, "keys", 10000, "different keys")
	flags.IntVar(&q.valueBytes, "value-bytes", 64, "size of a value")
	flags.DurationVar(&q.deadline, "deadline", time.Minute, "give up after this time")
	if err := flags.Parse(arguments); err != nil {
		return q, err
	}
	q.endpoints = strings.Split(*endpoints, ",")
	if q.operation != "put" && q.operation != "range" {
		return q, fmt.Errorf("-operation is %q; it must be put or range", q.operation)
	}
	for _, bound := range []struct {
		name       string
		value, max int
	}{
		{"clients", q.clients, clientsMax},
		{"connections", q.connections, connectionsMax},
		{"requests", q.requests, requestsMax},
		{"keys", q.keys, requestsMax},
		{"value-bytes", q.valueBytes, valueBytesMax},
	} {
		if bound.value < 1 || bound.value > bound.max {
			return q, fmt.Errorf("-%s is %d; it must be 1 to %d", bound.name, bound.value, bound.max)
		}
	}
	return q, nil
}

// answer dials, runs the load and prints the report.
func answer(q load) error {
	ctx, cancel := context.WithTimeout(context.Background(), q.deadline)
	defer cancel()
	stubs := make([]etcdserverpb.KVClient, q.connections)
	for i := range stubs {
		endpoint := q.endpoints[i%len(q.endpoints)]
		connection, err := grpc.DialContext(ctx, endpoint, grpc.WithInsecure(), grpc.WithBlock())
		if err != nil {
			return fmt.Errorf("%s does not answer: %w", endpoint, err)
		}
		defer connection.Close()
		stubs[i] = etcdserverpb.NewKVClient(connection)
	}
	cpu, begin := cpuSeconds(), time.Now()
	latencies, err := run(ctx, q, stubs)
	if err != nil {
		return err
	}
	elapsed := time.Since(begin).Seconds()
	cpu = cpuSeconds() - cpu
	sort.Slice(latencies, func(i, j int) bool { return latencies[i] < latencies[j] })
	return json.NewEncoder(os.Stdout).Encode(report{
		Operation:   q.operation,
		Clients:     q.clients,
		Connections: q.connections,
		Requests:    len(latencies),
		Seconds:     elapsed,
		OpsPerS:     float64(len(latencies)) / elapsed,
		P50Ms:       percentile(latencies, 50),
		P99Ms:       percentile(latencies, 99),
		CPUSeconds:  cpu,
	})
}

// run starts the clients and gathers the latency of every request.
func run(ctx context.Context, q load, stubs []etcdserverpb.KVClient) ([]time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	latencies := make([]time.Duration, q.requests)
	errors := make(chan error, q.clients)
	var clients sync.WaitGroup
	for i := 0; i < q.clients; i++ {
		// The requests are dealt out in advance, as evenly as whole numbers allow.
		share := latencies[q.requests*i/q.clients : q.requests*(i+1)/q.clients]
		ask := asker(q, stubs[i%len(stubs)], rand.New(rand.NewSource(int64(i))))
		clients.Add(1)
		go func() {
			defer clients.Done()
			for n := range share {
				begin := time.Now()
				if err := ask(ctx); err != nil {
					errors <- err
					cancel() // the others end too; their errors only repeat this one
					return
				}
				share[n] = time.Since(begin)
			}
		}()
	}
	clients.Wait()
	select {
	case err := <-errors:
		return nil, err
	default:
		return latencies, nil
	}
}

// asker returns what one client does again and again. Requests are made once and reused: the
// client's work is to be the network's, not the allocator's.
func asker(q load, stub etcdserverpb.KVClient, random *rand.Rand) func(context.Context) error {
	const digits = 12
	key := []byte("key:" + strings.Repeat("0", digits))
	choose := func() {
		for i, number := len(key)-1, random.Intn(q.keys); i >= len(key)-digits; i-- {
			key[i] = byte('0' + number%10)
			number /= 10
		}
	}
	if q.operation == "range" {
		request := &etcdserverpb.RangeRequest{Key: key}
		return func(ctx context.Context) error {
			choose()
			_, err := stub.Range(ctx, request)
			return err
		}
	}
	value := []byte(strings.Repeat("x", q.valueBytes))
	request := &etcdserverpb.PutRequest{Key: key, Value: value}
	return func(ctx context.Context) error {
		choose()
		_, err := stub.Put(ctx, request)
		return err
	}
}

// percentile of a sorted list, in milliseconds.
func percentile(sorted []time.Duration, percent int) float64 {
	return sorted[(len(sorted)-1)*percent/100].Seconds() * 1e3
}

// cpuSeconds is the user and system time of this process so far.
func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}
