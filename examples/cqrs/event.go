package main

import "time"

// fact is what all events say.
type fact struct {
	// ID is the UUID of the event's message, and so what makes it the same however often it is
	// published. It is made from the ID of the command.
	ID      string    `json:"id"`
	Desk    string    `json:"desk"` // which life of the desk it is of
	Command string    `json:"command,omitempty"`
	Room    *room     `json:"room,omitempty"` // as it is since
	At      time.Time `json:"at"`
}

func (f fact) id() string { return f.ID }

// event is anything that has happened.
type event interface{ id() string }

// The events. Their names, which are the names of their types, are the names of the events in a
// browser.
type (
	// DeskOpened begins a life of the desk: all rooms are free, whatever was before.
	DeskOpened struct{ fact }
	// RoomBooked says that a room is reserved.
	RoomBooked struct{ fact }
	// BookingCancelled says that the booking was given up.
	BookingCancelled struct{ fact }
	// GuestCheckedIn says that the guest has the key.
	GuestCheckedIn struct{ fact }
	// GuestCheckedOut says that the guest has left.
	GuestCheckedOut struct{ fact }
	// RoomCleaned says that the room is fit for the next guest.
	RoomCleaned struct{ fact }
	// CommandRefused says that nothing has happened, and why. A command is answered before it is
	// decided, so the answer to it comes here.
	CommandRefused struct {
		fact
		Reason string `json:"reason"`
	}
)
