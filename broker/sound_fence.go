//go:build !broken_fence

package broker

// guarded says that an attempt is heard only as long as its lease is the job's. It is
// false in a build that is broken on purpose, which has to fail `millstream torture`.
const guarded = true
