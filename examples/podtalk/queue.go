//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// exitMessage ends the stream of messages in a queue. rand.Text cannot make it.
const exitMessage = "exit"

// A queue is an open message queue, POSIX or System V.
type queue interface {
	send(ctx context.Context, message string) error        // waits for room
	receive(ctx context.Context) (message string, _ error) // waits for a message
	remove() error
	Close() error // lets go of the queue, which stays
}

// An opener opens a queue, and makes it if it may and there is none.
type opener func(create bool) (queue, error)

// await opens a queue that somebody else makes, when it is there.
func (open opener) await(ctx context.Context) (q queue, err error) {
	err = retry(ctx, func() (err error) {
		q, err = open(false)
		return err
	}, unix.ENOENT)
	return q, err
}

// produce sends n random messages and then the exit message, and prints them.
func (s *session) produce(ctx context.Context, open opener, n string) error {
	count, err := strconv.ParseUint(n, 10, 31)
	if err != nil {
		return fmt.Errorf("number of messages %q: %w", n, errors.Unwrap(err))
	}
	q, err := open(true)
	if err != nil {
		return err
	}
	defer q.Close()
	for i := range count + 1 {
		message := exitMessage
		if i < count {
			message = rand.Text()
		}
		if err := q.send(ctx, message); err != nil {
			return err
		}
		fmt.Fprintln(s.out, message)
	}
	return nil
}

// consume prints the messages in a queue up to the exit message and removes it. It
// waits for the producer to make the queue.
func (s *session) consume(ctx context.Context, open opener) error {
	q, err := open.await(ctx)
	if err != nil {
		return err
	}
	defer q.Close()
	for {
		message, err := q.receive(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintln(s.out, message)
		if message == exitMessage {
			break
		}
	}
	if s.keep {
		return nil
	}
	return q.remove()
}
