package backends_test

import (
	"context"
	"fmt"

	"github.com/headrace/headrace/backends"
	_ "github.com/headrace/headrace/backends/memory" // memory://
)

func ExampleOpen() {
	b, err := backends.Open(context.Background(), "memory://?messages=5000&age=1h")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Close()
	fmt.Println(b.Traits().Name)

	_, err = backends.Open(context.Background(), "memory://?mesages=5000")
	fmt.Println(err)
	// Output:
	// memory
	// backends: invalid parameter: mesages is unknown (known: age, bytes, forever, keys, messages, retain, total)
}
