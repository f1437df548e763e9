package postgres

// distributed are the tables that grow. When one server is too small they are spread
// over several by account: each has account_id in its key, and every statement of an
// engine names the account whose rows it means, so that it runs where these are. The
// first is the one with which the others are colocated.
var distributed = []string{
	"attempt", "batch", "contact", "due", "import", "inbox", "lost", "outcome", "progress", "receipt", "response", "settlement", "skip", "stranger",
}

// Distributed returns the names of the tables that are spread by account_id.
func Distributed() []string { return append([]string(nil), distributed...) }
