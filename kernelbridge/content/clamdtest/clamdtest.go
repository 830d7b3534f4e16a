// SPDX-License-Identifier: Apache-2.0

// Package clamdtest is the other side of package clamd in plain Go: a daemon that speaks as
// clamd 1.4 does, and as a broken one, for tests without ClamAV and its signatures.
package clamdtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Marker is what this scanner finds, under the name Found.
const (
	Marker = "ARBITER-SCAN-TEST-STRING"
	Found  = "Arbiter.Test-1.UNOFFICIAL"
)

// Server answers on a unix socket. Its methods may be called concurrently.
type Server struct {
	listener net.Listener
	running  sync.WaitGroup
	closed   chan struct{}

	mu      sync.Mutex
	conns   map[net.Conn]bool
	answer  func(f *os.File) []byte
	edition []byte
	keep    bool
	scans   int
	asked   int // for the edition
}

// Listen starts a server. Its socket must not be there yet.
func Listen(socket string) (*Server, error) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("listening as a scanner: %w", err)
	}
	s := &Server{listener: l, closed: make(chan struct{}), conns: map[net.Conn]bool{}, answer: Look, edition: []byte("ClamAV 1.4.3/27500/Thu Nov  5 09:34:19 2026\x00")}
	s.running.Go(s.accept)
	return s, nil
}

// Look is what scans are answered with at first, and what clamd says.
func Look(f *os.File) []byte {
	content, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
	switch {
	case err != nil:
		return []byte("fd[11]: OK\x00") // clamd 1.4.3 says so of a file that cannot be read
	case bytes.Contains(content, []byte(Marker)):
		return []byte("fd[11]: " + Found + " FOUND\x00")
	}
	return []byte("fd[11]: OK\x00")
}

// Answer sets what scans are answered with from now on: these bytes, and then the connection
// is closed. Nil: it stays open, and nothing comes.
func (s *Server) Answer(answer func(f *os.File) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// SetEdition sets what VERSION is answered with, in the same way.
func (s *Server) SetEdition(reply []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.edition = reply
}

// KeepOpen has connections stay open from now on, whatever they were answered with.
func (s *Server) KeepOpen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep = true
}

// Editions returns how often VERSION was asked for.
func (s *Server) Editions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// Scans returns how many scans were asked for.
func (s *Server) Scans() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.scans
}

// Close ends the server and its connections, and takes the socket away.
func (s *Server) Close() error {
	select {
	case <-s.closed:
		return nil
	default:
	}
	close(s.closed)
	err := s.listener.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
	return err
}

func (s *Server) accept() {
	for {
		c, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // the test has no descriptor left
			continue
		}
		s.mu.Lock()
		s.conns[c] = true
		s.mu.Unlock()
		s.running.Go(func() {
			s.serve(c.(*net.UnixConn))
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.conns, c)
			c.Close()
		})
	}
}

func (s *Server) serve(c *net.UnixConn) {
	command, f, err := receive(c)
	if err != nil {
		return
	}
	if f != nil {
		defer f.Close()
	}
	s.mu.Lock()
	answer, reply, keep := s.answer, s.edition, s.keep
	switch string(command) {
	case "zFILDES\x00\x00":
		s.scans++
	case "zVERSION\x00":
		s.asked++
	}
	s.mu.Unlock()
	switch {
	case string(command) == "zVERSION\x00":
	case string(command) == "zFILDES\x00\x00" && f == nil:
		reply = []byte("No file descriptor received. ERROR\x00")
	case string(command) == "zFILDES\x00\x00":
		reply = answer(f)
	default:
		reply = []byte("UNKNOWN COMMAND\x00")
	}
	c.SetWriteDeadline(time.Now().Add(10 * time.Second))
	c.Write(reply) // whoever has gone does not hear it
	if reply == nil || keep {
		<-s.closed
	}
}

// receive returns the first packet of a connection, and the file that came with it.
func receive(c *net.UnixConn) (command []byte, f *os.File, err error) {
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf, rights := make([]byte, 256), make([]byte, unix.CmsgSpace(4))
	n, m, _, _, err := c.ReadMsgUnix(buf, rights)
	if err != nil {
		return nil, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(rights[:m])
	if err != nil {
		return nil, nil, err
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil || len(fds) != 1 {
			return nil, nil, errors.Join(err, fmt.Errorf("%d descriptors", len(fds)))
		}
		f = os.NewFile(uintptr(fds[0]), "scanned")
	}
	return buf[:n], f, nil
}
