// Package all registers the backends that belong to headrace with package backends. Import it for
// its side effect:
//
//	import _ "github.com/headrace/headrace/backends/all"
package all

import (
	_ "github.com/headrace/headrace/backends/memory"      // memory://
	_ "github.com/headrace/headrace/backends/redisstream" // redis:// and its kin
)
