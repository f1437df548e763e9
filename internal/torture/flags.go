package torture

import "flag"

// Long is whether tests take their long form: 'go test ./internal/torture -torture.long'.
func Long() bool { return *long }

var long = flag.Bool("torture.long", false, "take the long form of each test")
