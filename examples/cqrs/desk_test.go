package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/components/cqrs"
)

// heard is a desk whose events are published into a list.
func heard(t *testing.T) (*desk, func() []string) {
	t.Helper()
	var all []string
	d := newDesk(func(_ context.Context, e event) error {
		all = append(all, sentence(t, e))
		return nil
	})
	return d, func() []string { return all }
}

// sentence is an event in a few words.
func sentence(t *testing.T, e event) string {
	t.Helper()
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return sentenceOf(t, cqrs.StructName(e), data)
}

func sentenceOf(t *testing.T, name string, data []byte) string {
	t.Helper()
	var e struct {
		Room   *room
		Reason string
	}
	if err := json.Unmarshal(data, &e); err != nil {
		t.Fatal(err)
	}
	if e.Room != nil {
		return strings.TrimSpace(fmt.Sprintf("%s %d v%d %s", name, e.Room.Number, e.Room.Version, e.Room.Guest))
	}
	return strings.TrimSpace(name + " " + e.Reason)
}

func TestDeskDecides(t *testing.T) {
	d, events := heard(t)
	for i, c := range []command{
		BookRoom{101, "Ada"}, BookRoom{101, "Grace"}, CheckOut{101}, CleanRoom{101}, CheckIn{101}, CancelBooking{101}, CheckOut{101}, BookRoom{101, "Grace"}, CleanRoom{101},
		BookRoom{304, "Grace"}, CancelBooking{304}, CheckIn{304}, CheckIn{999},
	} {
		if err := d.handle(t.Context(), fmt.Sprint(i), c); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		"DeskOpened",
		"RoomBooked 101 v1 Ada",
		"CommandRefused room 101 is booked, not free",
		"CommandRefused room 101 is booked, not occupied",
		"CommandRefused room 101 is booked, not uncleaned",
		"GuestCheckedIn 101 v2 Ada",
		"CommandRefused room 101 is occupied, not booked",
		"GuestCheckedOut 101 v3",
		"CommandRefused room 101 is uncleaned, not free",
		"RoomCleaned 101 v4",
		"RoomBooked 304 v1 Grace",
		"BookingCancelled 304 v2",
		"CommandRefused room 304 is free, not booked",
		"CommandRefused there is no room 999",
	}
	if !slices.Equal(events(), want) {
		t.Errorf("events\n%q, want\n%q", events(), want)
	}
	view := d.view()
	if len(view.Rooms) != floors*perFloor || view.Rooms[0] != (room{101, free, "", 4}) || view.Rooms[11] != (room{304, free, "", 2}) {
		t.Errorf("rooms %+v", view.Rooms)
	}
	view.Rooms[0].Guest = "changed"
	if d.view().Rooms[0].Guest != "" {
		t.Error("the view is the desk's own")
	}
}

// TestDeskKnowsACommandAgain: the newest ones, whatever became of them.
func TestDeskKnowsACommandAgain(t *testing.T) {
	d, events := heard(t)
	for _, c := range []command{BookRoom{101, "Ada"}, BookRoom{102, "Ada"}, CheckIn{101}} {
		if err := d.handle(t.Context(), "same", c); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"DeskOpened", "RoomBooked 101 v1 Ada"}; !slices.Equal(events(), want) {
		t.Errorf("events %q, want %q", events(), want)
	}
	for i := range 2 * remembered {
		d.decide(fmt.Sprint(i), CheckIn{999})
	}
	if len(d.decided) != remembered || len(d.order) != remembered {
		t.Errorf("%d commands are remembered", len(d.decided))
	}
}

// TestDeskPublishesInOrder: an event that cannot be published holds up those after it, is published
// with the same ID again, and is gone once it was.
func TestDeskPublishesInOrder(t *testing.T) {
	away := errors.New("away")
	fail := away
	var ids []string
	d := newDesk(func(_ context.Context, e event) error {
		ids = append(ids, e.id())
		return fail
	})
	for _, id := range []string{"a", "b"} {
		if err := d.handle(t.Context(), id, CheckIn{101}); !errors.Is(err, away) {
			t.Fatal(err)
		}
	}
	fail = nil
	for range 2 {
		if err := d.publishOutbox(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{d.id, d.id, d.id, d.id + ".a", d.id + ".b"}; !slices.Equal(ids, want) {
		t.Errorf("published %q, want %q", ids, want)
	}
	d.turn <- struct{}{} // somebody publishes, and does not get on
	ended, end := context.WithCancel(t.Context())
	end()
	if err := d.publishOutbox(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for the turn: %v", err)
	}
}
