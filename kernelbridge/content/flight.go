// SPDX-License-Identifier: Apache-2.0

package content

import "github.com/arbiterd/arbiter/kernelbridge/abi"

// flight is a file that is being read in full for a fact.
type flight struct {
	stamp   stamp
	want    abi.Fields
	edition string // of the scanner: who knows a newer one does not join
}

// once has work done for a file, and what comes of it remembered under the file's stamp, which
// work returns. Whoever wants the same of it meanwhile, by done, waits for that: errElsewhere.
func (p *Pool) once(f flight, done func(abi.Content), work func() (known, stamp, error)) (abi.Content, error) {
	p.mu.Lock()
	waiting, underWay := p.flights[f]
	if underWay {
		p.flights[f] = append(waiting, done)
		p.mu.Unlock()
		p.counters.joined.Add(1)
		return abi.Content{}, errElsewhere
	}
	p.flights[f] = nil
	p.mu.Unlock()
	var k known
	after := f.stamp
	defer func() { // k is empty after a panic or an error
		p.mu.Lock()
		others := p.flights[f]
		delete(p.flights, f)
		if k.Known != 0 && after == f.stamp {
			p.cache.put(f.stamp, k)
		}
		p.mu.Unlock()
		for _, done := range others {
			p.tell(done, k.Content)
		}
	}()
	var err error
	k, after, err = work()
	return k.Content, err
}

// remembered returns what was found out about a file: of a scan only what the scanner would
// say now, too, as far as that is known. edition is its own of now.
func (p *Pool) remembered(s stamp, edition string) (abi.Content, bool) {
	p.mu.Lock()
	k, ok := p.cache.get(s)
	p.mu.Unlock()
	if k.Known&abi.FieldScan != 0 && (k.edition == "" || k.edition != edition || p.now().Sub(k.scanned) > p.opts.Scan.MaxAge) {
		k.ForgetScan()
	}
	return k.Content, ok
}
