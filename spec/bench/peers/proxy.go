// The proxy that one writes in Go in an afternoon: httputil.ReverseProxy, and the token in a variable behind a read-write lock that
// a goroutine replaces every second.
//
// usage: proxy ORIGIN_PORT, prints "port N".
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sync"
	"time"
)

type store struct {
	mu    sync.RWMutex
	token string
}

func (s *store) get() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.token
}

func (s *store) refresh() {
	for i := 1; ; i++ {
		s.mu.Lock()
		s.token = fmt.Sprintf("token-%032d", i)
		s.mu.Unlock()
		time.Sleep(time.Second)
	}
}

// Without a pool ReverseProxy allocates 32 KiB for every response.
type pool struct{ sync.Pool }

func (p *pool) Get() []byte  { return p.Pool.Get().([]byte) }
func (p *pool) Put(b []byte) { p.Pool.Put(b) } //nolint:staticcheck

func main() {
	origin, err := url.Parse("http://127.0.0.1:" + os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	s := &store{}
	go s.refresh()
	proxy := httputil.NewSingleHostReverseProxy(origin)
	forward := proxy.Director
	proxy.Director = func(r *http.Request) {
		forward(r)
		r.Host = origin.Host
		r.Header.Set("Authorization", "Bearer "+s.get())
	}
	proxy.Transport = &http.Transport{MaxIdleConns: 4096, MaxIdleConnsPerHost: 4096, DisableCompression: true}
	proxy.BufferPool = &pool{sync.Pool{New: func() any { return make([]byte, 32*1024) }}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("port", listener.Addr().(*net.TCPAddr).Port)
	log.Fatal(http.Serve(listener, proxy))
}
