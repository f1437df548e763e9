package campaign

import (
	"fmt"
	"slices"
)

// Account is the operator's credentials and quota at the platform, as its file
// describes it. It holds references to secrets, never the secrets.
type Account struct {
	Name string `yaml:"account" json:"account"`
	// Endpoint is the URL of the API: https, or http to a loopback address only.
	Endpoint string `yaml:"endpoint" json:"endpoint"`
	// Live must be true for any endpoint that is not loopback: real people are called.
	Live bool `yaml:"live" json:"live"`
	// AccessKeyID and AccessKeySecret are references: ${NAME} for an environment
	// variable, file:/path for a file only its owner can read (0600). Both empty:
	// the credentials chain of the platform's own tools (environment, profile, RAM role).
	AccessKeyID     string `yaml:"access_key_id" json:"access_key_id"`
	AccessKeySecret string `yaml:"access_key_secret" json:"access_key_secret"`
	SecurityToken   string `yaml:"security_token" json:"security_token,omitempty"`
	// ReceiptSecret is the reference to the secret part of the path on which the
	// platform pushes receipts, at least 32 characters.
	ReceiptSecret string `yaml:"receipt_secret" json:"receipt_secret,omitempty"`
	// Limit is how many requests per second the platform allows the whole account.
	Limit     int        `yaml:"limit" json:"limit"`
	CallerIDs []CallerID `yaml:"caller_ids" json:"caller_ids"`
}

// CallerID is a number shown to the people called. It belongs to an account.
type CallerID struct {
	Number string `yaml:"number" json:"number"`
	// Lines is how many calls the number carries at the same time.
	Lines int `yaml:"lines" json:"lines"`
	// Pace is the most calls that are started per second from the number, over all
	// campaigns; 0: the account's limit is enough.
	Pace float64 `yaml:"pace" json:"pace,omitempty"`
}

// Allows refuses a campaign that the account must not dial: one of sample numbers on
// a live account, or one that shows a number the account does not own.
func (a *Account) Allows(c *Campaign) error {
	if a.Live && c.Sample {
		return fmt.Errorf("campaign %s has sample: true, its numbers may belong to somebody: it is never dialled on the live account %s", c.Name, a.Name)
	}
	for _, id := range c.CallerIDs {
		if !slices.ContainsFunc(a.CallerIDs, func(own CallerID) bool { return own.Number == id }) {
			return fmt.Errorf("caller_ids of campaign %s: the account %s has no number %s", c.Name, a.Name, id)
		}
	}
	return nil
}
