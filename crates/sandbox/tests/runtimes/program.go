package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"runtime/pprof"
	"sync"
	"syscall"
	"time"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func main() {
	var group sync.WaitGroup
	for i := 0; i < 100; i++ {
		group.Add(1)
		go func() { time.Sleep(time.Millisecond); group.Done() }()
	}
	group.Wait()
	if string(must(exec.Command("/bin/echo", "x").Output())) != "x\n" {
		panic("echo")
	}

	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }))
	response := must(http.Get(server.URL))
	if string(must(io.ReadAll(response.Body))) != "hello" {
		panic("http")
	}
	server.Close()
	must(net.Interfaces())
	must(net.LookupHost("localhost"))
	must(net.ListenPacket("udp", "127.0.0.1:0"))
	listener := must(net.Listen("unix", "/tmp/socket"))
	// Between sockets by splice.
	upstream := must(net.Listen("tcp", "127.0.0.1:0"))
	go func() {
		client := must(net.Dial("tcp", upstream.Addr().String()))
		io.WriteString(client, "spliced")
		client.Close()
	}()
	go func() {
		to := must(net.Dial("unix", "/tmp/socket"))
		must(io.Copy(to, must(upstream.Accept())))
		to.Close()
	}()
	if string(must(io.ReadAll(must(listener.Accept())))) != "spliced" {
		panic("splice")
	}

	if err := os.WriteFile("/tmp/a", []byte("x"), 0o644); err != nil {
		panic(err)
	}
	from, to := must(os.Open("/tmp/a")), must(os.Create("/tmp/b"))
	must(io.Copy(to, from))
	must(os.ReadDir("/tmp"))
	if err := os.RemoveAll("/tmp/b"); err != nil {
		panic(err)
	}
	profile := must(os.Create("/tmp/profile"))
	if err := pprof.StartCPUProfile(profile); err != nil {
		panic(err)
	}
	pprof.StopCPUProfile()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	syscall.Kill(os.Getpid(), syscall.SIGUSR1)
	<-signals
	fmt.Println("works")
}
