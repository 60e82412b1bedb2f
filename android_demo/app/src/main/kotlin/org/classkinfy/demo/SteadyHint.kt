package org.classkinfy.demo

/** Lets a hint through when most of the last frames ask for it, for one that flickers is not read. */
internal class SteadyHint {
    private val recent = ArrayDeque<String?>()

    /**
     * @param reason the first of a frame's, null of a good one
     * @return what to show
     */
    fun after(reason: String?): String? {
        recent.addLast(reason)
        if (recent.size > FRAMES) recent.removeFirst()
        return recent.groupBy { it }.values.firstOrNull { it.size > FRAMES / 2 }?.first()
    }

    private companion object {
        const val FRAMES = 5
    }
}
