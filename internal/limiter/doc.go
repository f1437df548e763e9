// Package limiter decides how fast requests leave the machine. A Pace shapes
// the rate that a person asked for; a Guard holds the law of the platform: an
// account may send so many requests per second (1000 for SmartCall, help
// document 393526), and the next one is refused.
//
// # Why a bucket is not enough
//
// Nobody says where the platform's second begins, so every sliding second
// has to be right. A token bucket at exactly the limit plans request i and
// request i+1000 one second apart. Then the network delays the first by 3 ms
// and the second by 1 ms, and the platform finds 1001 requests in a second.
// Against a server that counts strictly, a bucket of 1000/s with a burst of 1
// had some 70 requests of 15,000 refused, on an idle machine; with a burst of
// 1000 up to 1999 went into one second. A lower rate buys a margin, which a
// busy machine uses up: 990/s had 88 refused. A bucket looks only at our clock,
// and the second that counts is the platform's.
//
// # What the guard does
//
// It has as many slots as the limit. A request takes a slot right before its
// first byte and keeps it until one second after its answer, less a credit:
//
//	the request got                            its slot is free again
//	an answer                                  at the answer + 1 s - credit
//	none, and something was written            at its deadline + 1 s
//	nothing written                            as it was before
//	(after Hold)                               when the hold ends
//
//	credit = 0.8 * least round trip ever seen - 1 ms, and not below 0;
//	         0 until a second has passed and 1000 answers have come
//
// # Why that is safe
//
// Say request i is sent at s, arrives (is counted) at a, and its answer is here
// at r; it spent f = a-s on the way there and b = r-a on the answer: the
// platform's work, which comes after the counting, and the way back. Let
// request j be the next one in the same slot. It was granted no sooner than
// r(i) + 1 s - credit, and sent later than that. So
//
//	a(j) - a(i)  =  s(j) + f(j) - r(i) + b(i)  >=  1 s - credit + f(j) + b(i)
//
// which is at least a second if
//
//	credit <= f(j) + b(i)                                              (1)
//
// Then a slot puts at most one request into any second, there are limit slots,
// and no second holds more than limit requests. Nothing was said about
// jitter, order, load, pauses of the process or the rate at which slots are
// asked for: late senders arrive later, late answers free their slot later,
// and both only make a(j) - a(i) longer. No margin below the limit is needed.
//
// Without a credit, (1) says 0 <= f + b, and nothing is assumed at all but that
// time does not run backwards. The price is a round trip in each second: of
// 25 ms, 2.5 % of the rate. The credit wins most of it back and needs an
// assumption, since nobody can see f and b, only their sum:
//
//	(A) The quickest way there and the quickest way back, of all requests,
//	    add up to no less than the credit.
//
// How the round trip is divided between the two ways does not matter; they
// need not be alike. The least round trip ever seen is no proof of (A), because
// it comes from above: the true least can be less. Two things make them
// differ. The fastest way there may never have met the fastest way back (two
// routes, each quick in one direction): the fifth that is not used is for
// that, and for luck. And the first requests are slow, which is why there is no
// credit until a thousand answers have been seen. The missing millisecond is
// for what lies between our clock readings and the wire; where the platform is
// nearer than 1.25 ms, there is no credit at all and hardly a need for it.
//
// # When the least round trip falls
//
// It only ever falls, and with it the credit. Slots keep the moment of their
// answer, and the credit is taken off when they are granted, so a fall counts
// at once for every slot whose second is running, and for those that lie
// there free. What was granted before was granted under a larger credit c. If
// the new round trip is not shorter than c it does not contradict (A) for c.
// If it is shorter, (A) was wrong: the route became quicker than four fifths
// of its best. Requests of the last moments under the old credit may then
// have come up to c less the new round trip too near to those before them,
// and up to that much of the rate may have gone over the limit, once: for a
// route of 25 ms that turns into one of 5 ms, 14 requests at 1000/s. No rule
// that gives a credit can exclude it, since the requests were on their way
// before anything could be known. The guard stops giving credit at the first
// such answer and begins to learn anew.
//
// # The other assumptions
//
// (B) A request without an answer arrives before its deadline or not at all.
// So its connection has to be closed by then in a way that drops what the
// kernel has not sent yet (SetLinger(0) on TCP): a plain close lets the kernel
// go on sending after an outage.
//
// (C) The platform's clock and ours run at the same rate to 200 millionths. The
// guard's second is that much longer.
//
// (D) Nobody else uses the account. A node that is given it inherits the slots of
// the node before it (Taken, Inherit): the one counts the times that are left before
// it lets go, the other from when it has got hold, so they only become longer on the
// way. A node that takes the account over from one that is gone does not know its
// slots and calls Hold.
//
// # What it costs
//
// A slot's turn takes 1.0002 s, a round trip less the credit, and the lateness
// of the timer and of the sender. If answers take 20 to 30 ms, that comes to
// 99.0 % of the limit, on a near network to 99.9 %. Go's timers are up to a
// millisecond late on an idle Linux machine, which waits in whole
// milliseconds; one timer serves all slots, and a sender is woken when its slot
// is there and not before.
//
// Measured with BenchmarkLoopback, client and strict server on the same two
// cores, 1000/s, twelve runs of 10,000 requests, from which the start without
// loss has taken some of the cost: 99.93 to 99.97 % on an idle machine, 99.7 to
// 100 % beside two busy loops; if answers take 25 ms, 99.3 to 99.4 % and 99.1 to
// 99.4 %. None was refused, and no second held more than 1000.
//
// # Two rates, two tools
//
// The guard would let a whole second's requests go at once and then wait. The
// Pace in front of it spreads them, keeps a campaign below the limit, and slows
// down when the platform says so. It is a rate.Limiter behind one dispenser.
// With a burst of 1 a dispenser loses 6 to 12 % of 1000/s, since a token that
// comes while it is late cannot be kept; from 5 to 10 (5 to 10 ms of tokens)
// nothing is lost if the dispenser does nothing else. Ours commits a
// transaction for each batch. So a batch is 20 ms of tokens, 50 commits per
// second at most, and another 30 ms of tokens are kept for a commit or a
// machine that is slow. That is the burst: at 1000/s, 50. It may exceed the pace
// of a campaign by 5 % in a second, and the law never, since the guard comes
// after it.
package limiter
