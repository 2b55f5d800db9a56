// A rate limiter that requests ask over HTTP: go-limiter's middleware over its store in memory. Prints its address.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/sethvargo/go-limiter/httplimit"
	"github.com/sethvargo/go-limiter/memorystore"
)

func main() {
	store, err := memorystore.New(&memorystore.Config{Tokens: 60_000_000, Interval: time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	byKey := func(r *http.Request) (string, error) { return r.Header.Get("X-Api-Key"), nil }
	limits, err := httplimit.NewMiddleware(store, byKey)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr())
	allowed := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	log.Fatal(http.Serve(listener, limits.Handle(allowed)))
}
