package main

import "fmt"

// state is what a room is for the desk.
type state string

const (
	free      state = "free"
	booked    state = "booked"
	occupied  state = "occupied"
	uncleaned state = "uncleaned"
)

// room is a room of the hotel, as events and lists show it.
type room struct {
	Number  int    `json:"number"`
	State   state  `json:"state"`
	Guest   string `json:"guest"`   // "" unless booked or occupied
	Version int    `json:"version"` // one more with each change
}

// command is what somebody wants to be done to a room. decide returns the room as it becomes and
// the event that says so, or a refusal; it changes nothing, so that a command can be decided and
// refused without a trace.
type command interface {
	number() int
	decide(r room) (room, func(fact) event, error)
}

// The commands. Their names, which are the names of their types, are their topics on the command
// bus.
type (
	// BookRoom reserves a free room for a guest.
	BookRoom struct {
		Room  int    `json:"room"`
		Guest string `json:"guest"`
	}
	// CancelBooking gives a booked room up.
	CancelBooking struct {
		Room int `json:"room"`
	}
	// CheckIn hands the guest of a booked room the key.
	CheckIn struct {
		Room int `json:"room"`
	}
	// CheckOut takes it back.
	CheckOut struct {
		Room int `json:"room"`
	}
	// CleanRoom makes a room fit for the next guest.
	CleanRoom struct {
		Room int `json:"room"`
	}
)

// refusal is why a command is not obeyed. Its text is for people.
type refusal string

func (r refusal) Error() string { return string(r) }

// must returns a refusal unless the room is in a state.
func (r room) must(be state) error {
	if r.State == be {
		return nil
	}
	return refusal(fmt.Sprintf("room %d is %s, not %s", r.Number, r.State, be))
}

func (c BookRoom) number() int { return c.Room }

func (c BookRoom) decide(r room) (room, func(fact) event, error) {
	err := r.must(free)
	r.State, r.Guest = booked, c.Guest
	return r, func(f fact) event { return RoomBooked{f} }, err
}

func (c CancelBooking) number() int { return c.Room }

func (c CancelBooking) decide(r room) (room, func(fact) event, error) {
	err := r.must(booked)
	r.State, r.Guest = free, ""
	return r, func(f fact) event { return BookingCancelled{f} }, err
}

func (c CheckIn) number() int { return c.Room }

func (c CheckIn) decide(r room) (room, func(fact) event, error) {
	err := r.must(booked)
	r.State = occupied
	return r, func(f fact) event { return GuestCheckedIn{f} }, err
}

func (c CheckOut) number() int { return c.Room }

func (c CheckOut) decide(r room) (room, func(fact) event, error) {
	err := r.must(occupied)
	r.State, r.Guest = uncleaned, ""
	return r, func(f fact) event { return GuestCheckedOut{f} }, err
}

func (c CleanRoom) number() int { return c.Room }

func (c CleanRoom) decide(r room) (room, func(fact) event, error) {
	err := r.must(uncleaned)
	r.State = free
	return r, func(f fact) event { return RoomCleaned{f} }, err
}
