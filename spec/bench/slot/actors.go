// Two of the three ways of the essay "Actors in Sync", in its own language: a goroutine that owns the token and offers it on a channel, and
// a variable behind a read-write lock. Same measurement as slot_bench.c.
//
// usage: actors channel|rwmutex THREADS SECONDS [quiet], prints "reads N seconds S"
package main

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

type token struct {
	value   string
	expires int64
}

// read gives the token of now; write replaces it.
type store interface {
	read() *token
	write(t *token)
}

type locked struct {
	mu sync.RWMutex
	t  *token
}

func (s *locked) read() *token {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.t
}

func (s *locked) write(t *token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.t = t
}

type actor struct{ offers, updates chan *token }

func newActor(t *token) *actor {
	a := &actor{make(chan *token), make(chan *token)}
	go func() {
		for {
			select {
			case a.offers <- t:
			case t = <-a.updates:
			}
		}
	}()
	return a
}

func (a *actor) read() *token   { return <-a.offers }
func (a *actor) write(t *token) { a.updates <- t }

func made(n int) *token {
	return &token{fmt.Sprintf("token-%032d", n), time.Now().Add(time.Hour).UnixMilli()}
}

// count reads until over is closed.
func count(s store, now int64, over *atomic.Bool) (reads, sum uint64) {
	for !over.Load() {
		if t := s.read(); t.expires > now {
			sum += uint64(t.value[0])
		}
		reads++
	}
	return reads, sum
}

func main() {
	var s store = &locked{t: made(1)}
	if os.Args[1] == "channel" {
		s = newActor(made(1))
	}
	threads, _ := strconv.Atoi(os.Args[2])
	seconds, _ := strconv.ParseFloat(os.Args[3], 64)
	quiet := len(os.Args) > 4
	var total, sums atomic.Uint64
	var over atomic.Bool
	var readers sync.WaitGroup
	begin := time.Now()
	for i := 0; i < threads; i++ {
		readers.Add(1)
		go func() {
			reads, sum := count(s, begin.UnixMilli(), &over)
			total.Add(reads)
			sums.Add(sum)
			readers.Done()
		}()
	}
	for n := 2; time.Since(begin).Seconds() < seconds; n++ {
		time.Sleep(time.Millisecond)
		if !quiet {
			s.write(made(n))
		}
	}
	over.Store(true)
	readers.Wait()
	fmt.Printf("reads %d seconds %.6f\n", total.Load(), time.Since(begin).Seconds())
}
