package hub

import "context"

func (b *fake) PublishAll(ctx context.Context, topic string, ms []Message) (ids []ID, err error) {
	for _, m := range ms {
		id, err := b.Publish(ctx, topic, m)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func (b *fake) Seek(context.Context, string, Seek) (ID, error) { return "", ErrUnsupported }
func (b *fake) Info(context.Context, string) (Info, error)     { return Info{}, ErrUnsupported }
func (b *fake) Delete(context.Context, string) error           { return ErrUnsupported }
func (b *fake) Erase(context.Context, string, ID) error        { return ErrUnsupported }
func (b *fake) Ping(context.Context) error                     { return nil }
func (b *fake) IsID(ID) bool                                   { return true }
